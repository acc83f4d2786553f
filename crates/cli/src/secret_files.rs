//! Files with a secret. They may be pipes, which tell no size, so what is read is bounded while it is read.

use std::fs::File;
use std::io::{Error, ErrorKind, Read as _, Result};
use std::path::Path;

use secrecy::SecretString;

/// The longest token that is read, in bytes.
const LONGEST_TOKEN: u64 = 64 * 1024;

/// The text of a file that has at most so many bytes.
///
/// # Errors
/// If it cannot be read, is longer ([`ErrorKind::FileTooLarge`]), or is no text.
pub(crate) fn read(path: &Path, most_bytes: u64) -> Result<String> {
    let mut text = String::new();
    File::open(path)?.take(most_bytes + 1).read_to_string(&mut text)?;
    if text.len() as u64 > most_bytes {
        return Err(Error::new(ErrorKind::FileTooLarge, format!("it is longer than {most_bytes} bytes")));
    }
    Ok(text)
}

/// A token, without the spaces and line ends around it.
///
/// # Errors
/// As [`read`]; a token has at most 64 KiB.
pub(crate) fn read_token(path: &Path) -> Result<SecretString> {
    let text = SecretString::from(read(path, LONGEST_TOKEN)?);
    Ok(SecretString::from(secrecy::ExposeSecret::expose_secret(&text).trim()))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn a_token_is_bounded_and_has_no_spaces_around() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, " abc\r\n").unwrap();
        assert_eq!(read_token(&path).unwrap().expose_secret(), "abc");
        assert_eq!(read(&path, 5).unwrap_err().kind(), ErrorKind::FileTooLarge);
        assert_eq!(read(&path, 6).unwrap(), " abc\r\n");
    }

    #[test]
    fn a_file_without_an_end_is_left_at_the_bound() {
        assert_eq!(read_token(Path::new("/dev/zero")).unwrap_err().kind(), ErrorKind::FileTooLarge);
    }
}
