//! What is typed, as a request: one grammar for the command line, `fcli` and the shell.

use config::words::Verb;

use crate::answer::Failure;
use crate::request::Request;

/// Words that begin a line, with what follows and what they do.
pub const VERBS: &[(&str, &str, &str)] = &[
    ("show", "[CATEGORY ...]", "what runs; without a category, what there is to show"),
    ("set", "CATEGORY ...", "edit the candidate; flowspec and blackhole act at once"),
    ("delete", "CATEGORY ...", "undo a set"),
    ("commit", "[check | confirmed MINUTES] [comment TEXT]", "put the candidate into force"),
    ("confirm", "", "keep a commit that awaits confirmation"),
    ("rollback", "[N]", "make the candidate what ran N commits ago; 0 drops all edits"),
    ("rebase", "", "put the candidate's edits on top of what others committed meanwhile"),
    ("reload", "", "take over the file as edited by other means"),
];

/// A line of words as a request.
///
/// # Errors
/// What to write instead.
pub fn parse(words: &[String]) -> Result<Request, Failure> {
    let (verb, rest) = words.split_first().ok_or_else(|| Failure::malformed("nothing to do: try show"))?;
    let no_more = |request: Request| match rest.first() {
        None => Ok(request),
        Some(word) => Err(Failure::malformed(format!("{verb} takes no further words: remove {word:?}"))),
    };
    let change = |which: Verb| {
        let what = || Failure::malformed(format!("{verb} what? {verb} CATEGORY ..."));
        let (category, arguments) = rest.split_first().ok_or_else(what)?;
        Request::change(which, category, arguments)
    };
    match verb.as_str() {
        "show" => Ok(show(rest)),
        "set" => change(Verb::Set),
        "delete" => change(Verb::Delete),
        "commit" => commit(rest).map_err(Failure::malformed),
        "confirm" => no_more(Request::Confirm),
        "rebase" => no_more(Request::Rebase),
        "reload" => no_more(Request::Reload),
        "rollback" => match rest {
            [] => Ok(Request::Rollback { back: 0 }),
            [back] => {
                let wrong = |_| Failure::malformed(format!("rollback how many commits? {back:?} is not a number"));
                let back = back.parse().map_err(wrong)?;
                Ok(Request::Rollback { back })
            }
            _ => Err(Failure::malformed("write rollback N")),
        },
        _ => {
            let verbs: Vec<&str> = VERBS.iter().map(|(verb, ..)| *verb).collect();
            Err(Failure::malformed(format!("{verb:?} is not a command; there are: {}", verbs.join(", "))))
        }
    }
}

/// `show | compare` is `show compare`, as network engineers type it.
fn show(words: &[String]) -> Request {
    let words: Vec<&String> = words.iter().filter(|w| *w != "|").collect();
    Request::Show {
        category: words.first().map(|w| (*w).clone()).unwrap_or_default(),
        arguments: words.iter().skip(1).map(|w| (*w).clone()).collect(),
    }
}

fn commit(words: &[String]) -> Result<Request, String> {
    let (mut check, mut confirmed_minutes, mut comment) = (false, None, None);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "check" => check = true,
            "confirmed" => {
                let minutes = words.next().and_then(|m| m.parse().ok()).filter(|m| (1..=1440).contains(m));
                confirmed_minutes =
                    Some(minutes.ok_or("confirmed within how many minutes? commit confirmed 5; 1 to 1440")?);
            }
            "comment" => {
                // An option is an option behind the comment too; a text in quotation marks is one word and none.
                let mut text: Vec<&str> = Vec::new();
                while let Some(next) = words.as_slice().first() {
                    let behind = words.as_slice().get(1);
                    let is_number = |w: &String| w.starts_with(|c: char| c.is_ascii_digit());
                    if next == "confirmed" && behind.is_some_and(is_number) {
                        break;
                    }
                    if next == "check" && behind.is_none() && !text.is_empty() {
                        return Err("check at the end of a comment: write commit check, or put the comment into \
                                    quotation marks"
                            .to_owned());
                    }
                    text.push(next);
                    words.next();
                }
                if text.is_empty() {
                    return Err("commit comment needs a text behind it".to_owned());
                }
                comment = Some(text.join(" "));
            }
            _ => return Err(format!("{word:?} is not understood: commit [check | confirmed MINUTES] [comment TEXT]")),
        }
    }
    Ok(Request::Commit { check, confirmed_minutes, comment })
}

/// A typed line as words: quotation marks keep words together, as in a shell.
///
/// # Errors
/// A quotation mark that is never closed.
pub fn split(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match c {
            '\'' | '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next() {
                        Some(next) if next == c => break,
                        Some('\\') if c == '"' => word.extend(characters.next()),
                        Some(next) => word.push(next),
                        None => return Err(format!("the quotation mark {c} is never closed")),
                    }
                }
            }
            '\\' => word.get_or_insert_default().extend(characters.next()),
            c if c.is_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::{Order, RouteName};

    fn line(text: &str) -> Result<Request, String> {
        parse(&split(text)?).map_err(|failure| failure.text)
    }

    #[test]
    fn lines_become_requests() {
        let show = |category: &str, arguments: &[&str]| Request::Show {
            category: category.to_owned(),
            arguments: arguments.iter().map(|a| (*a).to_owned()).collect(),
        };
        assert_eq!(line("show"), Ok(show("", &[])));
        assert_eq!(line("show | compare"), Ok(show("compare", &[])));
        assert_eq!(line("show hostgroup 'my web'"), Ok(show("hostgroup", &["my web"])));
        let commit =
            Request::Commit { check: false, confirmed_minutes: Some(5), comment: Some("two words".to_owned()) };
        assert_eq!(line("commit confirmed 5 comment \"two words\""), Ok(commit.clone()));
        assert_eq!(line("commit comment two words confirmed 5"), Ok(commit), "in any order");
        let text =
            |text: &str| Ok(Request::Commit { check: false, confirmed_minutes: None, comment: Some(text.to_owned()) });
        assert_eq!(line("commit comment 'as confirmed 5 times'"), text("as confirmed 5 times"));
        assert_eq!(line("commit comment the customer confirmed it"), text("the customer confirmed it"));
        assert_eq!(line("rollback"), Ok(Request::Rollback { back: 0 }));
        let order = line("delete flowspec '{ \"a\": [ 1 ] }'");
        let name = RouteName::new("{ \"a\": [ 1 ] }").expect("a name");
        assert_eq!(order, Ok(Request::Order(Order::EndRule { name, reason: None })));
    }

    #[test]
    fn wrong_lines_say_what_to_write() {
        for (text, part) in [
            ("frob", "not a command"),
            ("set", "set what?"),
            ("commit confirmed", "how many minutes"),
            ("commit confirmed 0", "1 to 1440"),
            ("commit now", "is not understood"),
            ("commit comment x confirmed 5m", "how many minutes"),
            ("commit comment new customer check", "quotation marks"),
            ("commit comment", "needs a text"),
            ("rollback x", "not a number"),
            ("confirm please", "takes no further words"),
            ("show 'x", "never closed"),
        ] {
            let error = line(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
