//! What is typed, as a request: one grammar for the command line, `fcli` and the shell.

use super::Request;

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
pub fn parse(words: &[String]) -> Result<Request, String> {
    let (verb, rest) = words.split_first().ok_or("nothing to do: try show")?;
    let no_more = |request: Request| match rest.first() {
        None => Ok(request),
        Some(word) => Err(format!("{verb} takes no further words: remove {word:?}")),
    };
    let change = || {
        let (category, arguments) = rest.split_first().ok_or_else(|| format!("{verb} what? {verb} CATEGORY ..."))?;
        Ok::<_, String>((category.clone(), arguments.to_vec()))
    };
    match verb.as_str() {
        "show" => Ok(show(rest)),
        "set" => change().map(|(category, arguments)| Request::Set { category, arguments }),
        "delete" => change().map(|(category, arguments)| Request::Delete { category, arguments }),
        "commit" => commit(rest),
        "confirm" => no_more(Request::Confirm),
        "rebase" => no_more(Request::Rebase),
        "reload" => no_more(Request::Reload),
        "rollback" => match rest {
            [] => Ok(Request::Rollback { back: 0 }),
            [back] => {
                let back = back.parse().map_err(|_| format!("rollback how many commits? {back:?} is not a number"))?;
                Ok(Request::Rollback { back })
            }
            _ => Err("write rollback N".to_owned()),
        },
        _ => {
            let verbs: Vec<&str> = VERBS.iter().map(|(verb, ..)| *verb).collect();
            Err(format!("{verb:?} is not a command; there are: {}", verbs.join(", ")))
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

    fn line(text: &str) -> Result<Request, String> {
        parse(&split(text)?)
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
        let json = Request::Set { category: "flowspec".to_owned(), arguments: vec!["{ \"a\": [ 1 ] }".to_owned()] };
        assert_eq!(line("set flowspec '{ \"a\": [ 1 ] }'"), Ok(json));
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
