//! Words as a shell reads them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::screen;

/// Whether [`quoted`] says the same again: text, without control characters.
pub(crate) fn can_be_typed(word: &OsStr) -> bool {
    let text = word.to_str();
    text.is_some_and(|text| !text.chars().any(char::is_control))
}

/// The word as a shell reads it back, if it can be typed at all.
pub(crate) fn quoted(word: &OsStr) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_=./:,@%+".contains(byte);
    let text = screen::visible(word.as_bytes());
    if !word.is_empty() && word.as_bytes().iter().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
