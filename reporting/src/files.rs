//! Files that must not be half written, or read by others.

use std::path::Path;

/// Makes a folder that only we may read: configurations hold passwords.
///
/// # Errors
/// Those of the system.
pub fn make_private(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Puts bytes in place of a file, whole or not at all; its rights stay, a new file is private.
///
/// # Errors
/// Those of the system; then the file is as it was.
pub fn replace_file(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let old = std::fs::metadata(&path).ok();
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let mode = old.as_ref().map_or(0o600, |m| m.mode() & 0o7777);
    let _ = std::fs::remove_file(&new);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
    file.write_all(bytes)?;
    if let Some(old) = old {
        // Without the right to give files away it becomes ours.
        let _ = std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()));
    }
    file.sync_all()?;
    std::fs::rename(&new, &path)?;
    // The rename itself has to last too.
    if let Some(folder) = path.parent() {
        let _ = std::fs::File::open(folder).and_then(|f| f.sync_all());
    }
    Ok(())
}
