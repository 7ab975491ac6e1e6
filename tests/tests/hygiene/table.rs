//! The tables of cases, as they are written in `cases/*.txt`.
//!
//! ```text
//! a name, which says what is odd
//!   RFC 9112, section 6.3: why it must be so
//!   | POST /{id} HTTP/1.1\r\n
//!   | Host: {host}\r\n\r\n
//!   = refused 400
//!   or
//!   = forwarded POST /{id}
//!     body hello
//!   ~ RFC 9112, section 2.2: why Envoy may do otherwise
//! ```
//!
//! Lines of `|` are put together: line ends are written out. In a table of answers they are what the app answers, and
//! lines of `>` the request, where it is not the ordinary one. Each `=` is what becomes of one request, in order; `or`
//! begins another way in which the case may end well. `by byte` stands for one byte in each write.

use outrider_tests::raw::script;

/// What a table's `|` lines are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Of {
    /// What a client sends.
    #[default]
    Requests,
    /// What the app answers.
    Answers,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Case {
    pub of: Of,
    pub name: String,
    /// Why it must end as it must.
    pub rfc: &'static str,
    /// The lines of `|`.
    pub bytes: String,
    /// The lines of `>`.
    pub request: String,
    pub by_byte: bool,
    /// Any of these is right.
    pub right: Vec<Vec<Outcome>>,
    /// Why Envoy does otherwise, and both are right.
    pub envoy: Option<&'static str>,
}

/// What becomes of one request.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It reaches the app, and the app's answer comes back.
    Forwarded(Wanted),
    /// One of these statuses, and the connection ends: nobody knows where the next request would begin.
    Refused(Vec<u16>),
    /// One of these statuses; the connection may go on.
    Declined(Vec<u16>),
    /// Its content turned out to be malformed when a part of it may have gone on: one of these statuses, the app has no
    /// whole request, and the connection ends.
    Spoilt(Vec<u16>),
    /// No more answers, and the connection ends.
    Closed,
    /// It was not sent whole: at most a refusal, no whole request at the app, and the connection ends.
    CutOff,
    /// It reaches the app, whose answer is none that could be passed on: one of these statuses.
    Failed(Vec<u16>),
    /// The app's answer comes with this status.
    Answered(u16, Wanted),
    /// It may have reached the app; no answer comes, and the connection ends.
    Dropped,
    /// The app's answer begins to come with this status, and ends so that nobody takes it for whole.
    BrokenOff(u16),
}

/// What a message must be at its far end.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// `POST /{id}`; empty for answers.
    pub start: String,
    pub body: String,
    pub fields: Vec<(String, String)>,
    pub absent: Vec<String>,
    pub trailers: Vec<(String, String)>,
}

/// Every case of a table.
pub fn read(of: Of, table: &'static str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut fresh = true;
    for line in table.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        assert_eq!(line, line.trim_end(), "white space that nobody sees: write \\x20");
        if !line.starts_with(' ') {
            cases.push(Case { of, name: line.to_owned(), ..Case::default() });
            fresh = true;
            continue;
        }
        let case = cases.last_mut().unwrap_or_else(|| panic!("{line}: of no case"));
        line_of(case, line, &mut fresh);
    }
    for case in &cases {
        let name = &case.name;
        assert!(case.rfc.starts_with("RFC ") || case.rfc.starts_with("CWE-"), "{name}: it gives a reason");
        assert!(!case.right.is_empty(), "{name}: it says how it must end");
        assert!(case.envoy.is_none_or(|reason| reason.starts_with("RFC ")), "{name}: a section of an RFC");
    }
    cases
}

fn line_of(case: &mut Case, line: &'static str, fresh: &mut bool) {
    if let Some(detail) = line.strip_prefix("    ") {
        return detail_of(case, detail);
    }
    let text = &line[2..];
    if let Some(bytes) = text.strip_prefix("| ") {
        case.bytes.push_str(bytes);
    } else if let Some(bytes) = text.strip_prefix("> ") {
        case.request.push_str(bytes);
    } else if let Some(reason) = text.strip_prefix("~ ") {
        case.envoy = Some(reason);
    } else if let Some(outcome) = text.strip_prefix("= ") {
        if std::mem::take(fresh) {
            case.right.push(Vec::new());
        }
        let outcome = outcome_of(outcome);
        case.right.last_mut().expect("one was begun").push(outcome);
    } else if text == "or" {
        *fresh = true;
    } else if text == "by byte" {
        case.by_byte = true;
    } else {
        assert!(case.rfc.is_empty(), "{}: one reason, not also {text}", case.name);
        case.rfc = text;
    }
}

fn outcome_of(text: &str) -> Outcome {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let statuses = || -> Vec<u16> {
        rest.split('|').map(|status| status.parse().unwrap_or_else(|_| panic!("{text}: no status"))).collect()
    };
    match word {
        "forwarded" => Outcome::Forwarded(Wanted { start: rest.to_owned(), ..Wanted::default() }),
        "next" => Outcome::Forwarded(Wanted { start: "GET /{id}-next".to_owned(), ..Wanted::default() }),
        "refused" => Outcome::Refused(statuses()),
        "failed" => Outcome::Failed(statuses()),
        "declined" => Outcome::Declined(statuses()),
        "spoilt" => Outcome::Spoilt(statuses()),
        "closed" => Outcome::Closed,
        "dropped" => Outcome::Dropped,
        "cut" => Outcome::CutOff,
        "answered" => Outcome::Answered(statuses()[0], Wanted::default()),
        "broken" => Outcome::BrokenOff(statuses()[0]),
        _ => panic!("{text}: no outcome"),
    }
}

fn detail_of(case: &mut Case, text: &str) {
    let name = case.name.clone();
    let outcome = case.right.last_mut().and_then(|way| way.last_mut());
    let Some(Outcome::Forwarded(wanted) | Outcome::Answered(_, wanted)) = outcome else {
        panic!("{name}: {text}: belongs to nothing that arrives")
    };
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let pair = || {
        let (field, value) = rest.split_once(": ").unwrap_or_else(|| panic!("{name}: {text}: no field"));
        (field.to_owned(), value.to_owned())
    };
    match word {
        "body" => rest.clone_into(&mut wanted.body),
        "field" => wanted.fields.push(pair()),
        "no" => wanted.absent.push(rest.to_owned()),
        "trailer" => wanted.trailers.push(pair()),
        _ => panic!("{name}: {text}: what is it?"),
    }
}

impl Outcome {
    fn short(&self) -> String {
        let one_of = |word: &str, statuses: &[u16]| {
            let statuses: Vec<_> = statuses.iter().map(u16::to_string).collect();
            format!("{word} {}", statuses.join("|"))
        };
        match self {
            Self::Forwarded(wanted) => format!("forwarded {}", wanted.start),
            Self::Refused(statuses) => one_of("refused", statuses),
            Self::Declined(statuses) => one_of("declined", statuses),
            Self::Spoilt(statuses) => one_of("spoilt", statuses),
            Self::Failed(statuses) => one_of("failed", statuses),
            Self::Closed => "closed".to_owned(),
            Self::CutOff => "cut".to_owned(),
            Self::Dropped => "dropped".to_owned(),
            Self::Answered(status, _) => format!("answered {status}"),
            Self::BrokenOff(status) => format!("broken {status}"),
        }
    }
}

impl Case {
    /// What the client sends.
    pub fn sends(&self) -> &str {
        match (self.of, self.request.as_str()) {
            (Of::Requests, _) => &self.bytes,
            (Of::Answers, "") => "GET /{id} HTTP/1.1\\r\\nHost: {host}\\r\\n\\r\\n",
            (Of::Answers, request) => request,
        }
    }

    /// The methods of the requests, as far as they can be read off.
    pub fn methods(&self) -> Vec<String> {
        let text = self.sends().trim_start_matches("\\r\\n");
        vec![text.split([' ', '\\']).next().unwrap_or_default().to_owned()]
    }

    /// As it is written, for people.
    pub fn wanted(&self) -> String {
        let way = |way: &Vec<Outcome>| way.iter().map(Outcome::short).collect::<Vec<_>>().join(", then ");
        self.right.iter().map(way).collect::<Vec<_>>().join("; or ")
    }

    /// The most answers that a right end of it has.
    pub fn answers(&self) -> usize {
        let answers = |way: &Vec<Outcome>| {
            way.iter()
                .filter(|outcome| !matches!(outcome, Outcome::Closed | Outcome::CutOff | Outcome::Dropped))
                .count()
        };
        self.right.iter().map(answers).max().unwrap_or_default()
    }
}

/// The names that cases use in braces.
pub struct Names {
    pub id: String,
    pub host: String,
}

impl Names {
    /// `text` with every byte that its escapes stand for.
    pub fn bytes(&self, text: &str) -> Vec<u8> {
        self.with(|names| script::bytes(text, names))
    }

    pub fn steps(&self, text: &str) -> Vec<script::Step> {
        self.with(|names| script::steps(text, names))
    }

    /// As characters of Latin-1, as messages are read.
    pub fn text(&self, text: &str) -> String {
        self.bytes(text).into_iter().map(char::from).collect()
    }

    fn with<T>(&self, then: impl FnOnce(&[(&str, &str)]) -> T) -> T {
        let next = format!("GET /{}-next HTTP/1.1\\r\\nHost: {}\\r\\n\\r\\n", self.id, self.host);
        then(&[("id", &self.id), ("host", &self.host), ("next", &next)])
    }
}
