//! What is refused of HTTP/1.1, and why.

use std::time::Duration;

/// A message that cannot be understood, or that two readers could understand differently. RFC 9112 where no other
/// document is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    #[error("the request line is not `method SP target SP version`")]
    RequestLine,
    #[error("the method is no token")]
    Method,
    #[error("the target has a byte that no URI has, or a form that the method does not take")]
    Target,
    #[error("the target is longer than {limit} bytes")]
    TargetTooLong { limit: usize },
    #[error("the version is neither HTTP/1.1 nor HTTP/1.0")]
    Version,
    #[error("the status line is not `version SP status SP reason`")]
    StatusLine,
    #[error("the head is larger than {limit} bytes")]
    HeadTooLarge { limit: usize },
    #[error("more than {limit} fields")]
    TooManyFields { limit: usize },
    #[error("a line ends with a bare line feed")]
    BareLineFeed,
    #[error("a carriage return that ends no line")]
    BareCarriageReturn,
    #[error("a field is folded over two lines")]
    ObsFold,
    #[error("white space before a field's colon")]
    SpaceBeforeColon,
    #[error("a field's name is no token")]
    FieldName,
    #[error("a field's value has a control character")]
    FieldValue,
    #[error("a field line without a colon")]
    NoColon,
    #[error("no Host")]
    NoHost,
    #[error("more than one Host")]
    TwoHosts,
    #[error("Content-Length is not one decimal number")]
    ContentLength,
    #[error("more than one Content-Length")]
    TwoContentLengths,
    #[error("Content-Length beside Transfer-Encoding")]
    LengthAndEncoding,
    #[error("Transfer-Encoding is not `chunked` alone")]
    TransferEncoding,
    #[error("a transfer coding that is not implemented")]
    UnknownCoding,
    #[error("Transfer-Encoding in HTTP/1.0")]
    EncodingInHttp10,
    #[error("content where the method or the status allows none")]
    Content,
    #[error("a chunk's size is not a hexadecimal number, or too large")]
    ChunkSize,
    #[error("a chunk's extension has a control character, or extensions are too long")]
    ChunkExtension,
    #[error("a chunk does not end where its size says")]
    ChunkEnd,
    #[error("a trailer field that belongs into the head")]
    TrailerField,
    #[error("an expectation other than 100-continue")]
    Expectation,
    #[error("the head took longer than {limit:?}")]
    TooSlow { limit: Duration },
    #[error("an interim answer that was not asked for, or too many of them")]
    Interim,
}

impl Malformed {
    /// The label in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::RequestLine => "request_line",
            Self::Method => "method",
            Self::Target => "target",
            Self::TargetTooLong { .. } => "target_too_long",
            Self::Version => "version",
            Self::StatusLine => "status_line",
            Self::HeadTooLarge { .. } => "head_too_large",
            Self::TooManyFields { .. } => "too_many_fields",
            Self::BareLineFeed => "bare_line_feed",
            Self::BareCarriageReturn => "bare_carriage_return",
            Self::ObsFold => "obs_fold",
            Self::SpaceBeforeColon => "space_before_colon",
            Self::FieldName => "field_name",
            Self::FieldValue => "field_value",
            Self::NoColon => "no_colon",
            Self::NoHost => "no_host",
            Self::TwoHosts => "two_hosts",
            Self::ContentLength => "content_length",
            Self::TwoContentLengths => "two_content_lengths",
            Self::LengthAndEncoding => "length_and_encoding",
            Self::TransferEncoding => "transfer_encoding",
            Self::UnknownCoding => "unknown_coding",
            Self::EncodingInHttp10 => "encoding_in_http10",
            Self::Content => "content",
            Self::ChunkSize => "chunk_size",
            Self::ChunkExtension => "chunk_extension",
            Self::ChunkEnd => "chunk_end",
            Self::TrailerField => "trailer_field",
            Self::Expectation => "expectation",
            Self::TooSlow { .. } => "too_slow",
            Self::Interim => "interim",
        }
    }
}
