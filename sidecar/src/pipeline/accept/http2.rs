//! What RFC 9113, sections 8.2.1 and 8.3.1, ask of a request's head, and `h2` leaves to its user.

use http::Method;
use http::header::HOST;
use http::request::Parts;

/// Why the head is malformed, if it is.
pub fn judge(head: &Parts) -> Result<(), &'static str> {
    let path = head.uri.path();
    if path == "*" && head.method != Method::OPTIONS {
        return Err("an asterisk is no path");
    }
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("its path has a byte that no path may have");
    }
    let host = head.headers.get(HOST);
    if let (Some(authority), Some(host)) = (head.uri.authority(), host)
        && !authority.as_str().as_bytes().eq_ignore_ascii_case(host.as_bytes())
    {
        return Err("Host beside another :authority");
    }
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if head.headers.values().any(|value| blank(value.as_bytes().first()) || blank(value.as_bytes().last())) {
        return Err("white space around a field's value");
    }
    Ok(())
}
