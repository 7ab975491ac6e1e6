//! Whether a case ended in one of the ways in which it may, by what its client heard and what reached the app.

use outrider_tests::raw::client::{End, Heard};
use outrider_tests::raw::message::{Message, Read};
use outrider_tests::raw::recorder::Record;

use crate::table::{Case, Names, Outcome, Wanted};

/// All that is known of how one case went on one way.
pub struct Ended<'a> {
    pub case: &'a Case,
    pub names: Names,
    pub heard: Heard,
    /// What the app recorded of it.
    pub records: Vec<Record>,
    /// A well-formed request on a connection of its own, after it.
    pub after: Result<(), String>,
}

impl Ended<'_> {
    /// `Err`: why, in every way in which it may end.
    pub fn judge(&self) -> Result<(), String> {
        self.after.clone().map_err(|why| format!("after it, another connection is not served: {why}"))?;
        if let Some(bad) = self.records.iter().find_map(bad) {
            return Err(bad);
        }
        let mut whys = Vec::new();
        for way in &self.case.right {
            match self.judge_way(way) {
                Ok(()) => return Ok(()),
                Err(why) => whys.push(why),
            }
        }
        Err(whys.join("; or "))
    }

    fn judge_way(&self, way: &[Outcome]) -> Result<(), String> {
        let Heard { answers, partial, bad, end, .. } = &self.heard;
        if let Some(why) = bad {
            return Err(format!("what came is no answer: {why}"));
        }
        let probe = format!("{}-probe", self.names.id);
        let (probed, mut records): (Vec<_>, Vec<_>) =
            self.records.iter().partition(|record| starts(record).ends_with(&probe));
        let (probes, others): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| echo(answer, &probe));
        let mut others = others.into_iter();
        // What a broken answer leaves is no answer more.
        let mut partial = partial.as_ref();
        for outcome in way {
            match outcome {
                Outcome::Forwarded(wanted) => {
                    let request = self.arrives(&mut records, wanted)?;
                    let answer = others.next().ok_or("the app's answer did not come")?;
                    if !echo(answer, &request.start) {
                        return Err(format!("an answer that is another's: {}", answer.start));
                    }
                }
                Outcome::Refused(statuses) | Outcome::Declined(statuses) => {
                    let answer = others.next().ok_or("no answer")?;
                    if answer.value("x-echo").is_some() || !statuses.contains(&answer.status()) {
                        return Err(format!("answered {}", answer.start));
                    }
                }
                Outcome::Spoilt(statuses) => {
                    let answer = others.next().ok_or("no answer")?;
                    if answer.value("x-echo").is_some() || !statuses.contains(&answer.status()) {
                        return Err(format!("answered {}", answer.start));
                    }
                    whole_not(take(&mut records))?;
                }
                Outcome::Closed => {}
                Outcome::CutOff => {
                    if let Some(answer) = others.next()
                        && (answer.value("x-echo").is_some() || answer.status() < 400)
                    {
                        return Err(format!("answered {}", answer.start));
                    }
                    whole_not(take(&mut records))?;
                }
                Outcome::Failed(statuses) => {
                    used_no_more(take(&mut records))?;
                    let answer = others.next().ok_or("no answer")?;
                    if answer.value("x-app").is_some() || !statuses.contains(&answer.status()) {
                        return Err(format!("answered {}", answer.start));
                    }
                }
                Outcome::Dropped => drop(take(&mut records)),
                Outcome::Answered(status, wanted) => {
                    take(&mut records).ok_or("it did not reach the app")?;
                    let answer = others.next().ok_or("the app's answer did not come")?;
                    if answer.status() != *status {
                        return Err(format!("answered {}", answer.start));
                    }
                    self.is(answer, wanted)?;
                }
                Outcome::BrokenOff(status) => {
                    used_no_more(take(&mut records))?;
                    match partial.take() {
                        Some(answer) if answer.status() == *status => {}
                        Some(answer) => return Err(format!("answered {}", answer.start)),
                        None => return Err("it did not break off".to_owned()),
                    }
                }
            }
        }
        if let Some(answer) = others.next() {
            return Err(format!("one answer too many: {}", answer.start));
        }
        if partial.is_some() {
            return Err("an answer broke off".to_owned());
        }
        if let Some(record) = records.first() {
            return Err(format!("reached the app: {}", shown(&record.raw)));
        }
        if *end == End::Open {
            return Err("it hung: neither an answer nor an end within the bound".to_owned());
        }
        let goes_on = !probes.is_empty() || !probed.is_empty();
        match way.last().expect("a way has an outcome") {
            Outcome::Forwarded(_) | Outcome::Answered(..) if probes.len() != 1 => {
                Err("the connection did not go on".to_owned())
            }
            Outcome::Refused(_)
            | Outcome::Spoilt(_)
            | Outcome::Closed
            | Outcome::CutOff
            | Outcome::Dropped
            | Outcome::BrokenOff(_)
                if goes_on =>
            {
                Err("the connection went on".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Takes the request that is wanted out of those that came: pipelined ones may take connections of their own.
    fn arrives<'m>(&self, records: &mut Vec<&'m Record>, wanted: &Wanted) -> Result<&'m Message, String> {
        let start = self.names.text(&wanted.start);
        let found = records.iter().position(|record| match &record.read {
            Read::Whole { message, .. } => format!("{} {}", message.method(), message.target()) == start,
            Read::Partial { .. } | Read::Bad { .. } => false,
        });
        let Some(found) = found else {
            let came: Vec<_> = records.iter().map(|record| shown(&record.raw)).collect();
            return Err(format!("{start} did not reach the app as a whole, but {came:?}"));
        };
        let Read::Whole { message, .. } = &records.remove(found).read else { unreachable!("it is whole") };
        self.is(message, wanted)?;
        Ok(message)
    }

    fn is(&self, message: &Message, wanted: &Wanted) -> Result<(), String> {
        let body = self.names.bytes(&wanted.body);
        if message.body != body {
            return Err(format!("its body is {}, not {}", shown(&message.body), shown(&body)));
        }
        for (name, value) in &wanted.fields {
            let values: Vec<_> = message.values(name).collect();
            if values != [self.names.text(value)] {
                return Err(format!("{name} is {values:?}, not {value}"));
            }
        }
        for name in &wanted.absent {
            if let Some(value) = message.value(name) {
                return Err(format!("it has {name}: {value}"));
            }
        }
        let trailers: Vec<_> =
            wanted.trailers.iter().map(|(name, value)| (name.clone(), self.names.text(value))).collect();
        if message.trailers != trailers {
            return Err(format!("its trailers are {:?}, not {trailers:?}", message.trailers));
        }
        Ok(())
    }

    /// In short, for the table of what happened: `refuses 400`, `forwards`, `forwards, refuses 400`.
    pub fn in_short(&self) -> String {
        let probe = format!("{}-probe", self.names.id);
        let words = self.heard.answers.iter().filter(|answer| !echo(answer, &probe)).map(|answer| {
            if answer.value("x-echo").is_some() {
                "forwards".to_owned()
            } else {
                format!("refuses {}", answer.status())
            }
        });
        let words: Vec<_> = words.collect();
        match (&words[..], self.heard.end) {
            ([], End::Open) => "waits".to_owned(),
            ([], End::Closed | End::Reset) => "closes".to_owned(),
            (words, _) => words.join(", "),
        }
    }

    /// Whether it must be refused for what it is, and so be counted.
    pub fn is_malformed(&self) -> bool {
        let refused = |outcome: &Outcome| matches!(outcome, Outcome::Refused(_) | Outcome::Spoilt(_));
        self.case.right.iter().all(|way| way.iter().any(refused))
    }
}

fn take<'m>(records: &mut Vec<&'m Record>) -> Option<&'m Record> {
    (!records.is_empty()).then(|| records.remove(0))
}

/// It reached the app on a connection that got no request after it: nobody knows what the app says there next.
fn used_no_more(record: Option<&Record>) -> Result<(), String> {
    match record {
        None => Err("it did not reach the app".to_owned()),
        Some(record) if record.last => Ok(()),
        Some(_) => Err("the app's connection was used again after a malformed answer".to_owned()),
    }
}

/// A part of it may have reached the app, but not as if it were all.
fn whole_not(record: Option<&Record>) -> Result<(), String> {
    match record {
        Some(Record { read: Read::Whole { .. }, .. }) => {
            Err("it reached the app as if it were whole".to_owned())
        }
        Some(_) | None => Ok(()),
    }
}

/// No byte that reaches the app may be such that two readers could read it in two ways, whatever the case.
fn bad(record: &Record) -> Option<String> {
    match &record.read {
        Read::Bad { why } => Some(format!("the app got {}, which is ambiguous: {why}", shown(&record.raw))),
        Read::Whole { .. } | Read::Partial { .. } => None,
    }
}

fn starts(record: &Record) -> String {
    match &record.read {
        Read::Whole { message, .. } | Read::Partial { head: Some(message) } => message.target().to_owned(),
        Read::Partial { head: None } | Read::Bad { .. } => String::new(),
    }
}

/// Whether the app made this answer, for a request whose line contains this.
fn echo(answer: &Message, of: &str) -> bool {
    answer.value("x-echo").is_some_and(|echo| of.starts_with(echo) || echo.ends_with(of))
}

/// Bytes as a person can read them, cut.
pub fn shown(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(400)];
    format!("\"{}{}\"", cut.escape_ascii(), if cut.len() < bytes.len() { "…" } else { "" })
}
