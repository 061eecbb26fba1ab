//! Rules that cover the excess and spare what the target ordinarily gets.
pub(super) fn mine(
    request: &super::Request<'_>,
    sample: &[&collectors::Sample],
    _ordinary: &[&collectors::Sample],
) -> super::Outcome {
    super::plain::mine(request, sample)
}
