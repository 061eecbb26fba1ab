//! Classic BPF programs for rings: what is taken, and how much of it. Plain instructions; the kernel checks them.

use libc::sock_filter;

/// `ld [k]` of 32 bits.
const LOAD: u16 = 0x20;
/// `mod #k`.
const MODULO: u16 = 0x94;
/// `jeq #k, jt, jf`.
const JUMP_EQUAL: u16 = 0x15;
/// `ret #k`.
const RETURN: u16 = 0x06;
/// Where a load gives a random number instead of octets (linux/filter.h, `SKF_AD_OFF + SKF_AD_RANDOM`).
const RANDOM: u32 = (-0x1000i32 + 56).cast_unsigned();

const fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// A program that takes at most `length` octets of one frame in `sampling` (by chance), of those that `filter` lets pass (all, if
/// it is empty).
#[must_use]
pub(crate) fn program(filter: &[sock_filter], length: u32, sampling: u32) -> Vec<sock_filter> {
    let mut program = Vec::new();
    if sampling > 1 {
        program.extend([
            instruction(LOAD, 0, 0, RANDOM),
            instruction(MODULO, 0, 0, sampling),
            instruction(JUMP_EQUAL, 1, 0, 0),
            instruction(RETURN, 0, 0, 0),
        ]);
    }
    if filter.is_empty() {
        program.push(instruction(RETURN, 0, 0, length));
    }
    for step in filter {
        let takes = step.code == RETURN && step.k > 0;
        program.push(if takes { instruction(RETURN, 0, 0, length) } else { *step });
    }
    program
}

/// Compiles a filter expression, such as `not port 22`, for Ethernet.
///
/// # Errors
/// What libpcap says of the expression.
pub(crate) fn compile(expression: &str) -> Result<Vec<sock_filter>, pcap::Error> {
    let compiler = pcap::Capture::dead(pcap::Linktype::ETHERNET)?;
    let program = compiler.compile(expression, true)?;
    // The crate shows instructions as text only: code, jt, jf, k.
    let parse = |text: String| {
        let numbers: Vec<u32> = text.split(' ').filter_map(|n| n.parse().ok()).collect();
        match numbers[..] {
            [code, jt, jf, k] => {
                Some(instruction(u16::try_from(code).ok()?, u8::try_from(jt).ok()?, u8::try_from(jf).ok()?, k))
            }
            _ => None,
        }
    };
    let steps: Option<Vec<sock_filter>> = program.get_instructions().iter().map(|i| parse(i.to_string())).collect();
    steps.ok_or(pcap::Error::InvalidString)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_take_a_frame_cuts_it_and_every_way_to_leave_it_stays() {
        let filter = compile("udp port 53").expect("valid");
        let cut = program(&filter, 256, 1);
        let returns: Vec<u32> = cut.iter().filter(|i| i.code == RETURN).map(|i| i.k).collect();
        assert!(returns.contains(&256) && returns.contains(&0) && returns.iter().all(|k| matches!(k, 0 | 256)));
        assert_eq!(program(&[], 96, 1).len(), 1);
        assert_eq!(program(&filter, 96, 100).len(), filter.len() + 4);
        assert!(compile("not a filter").is_err());
    }
}
