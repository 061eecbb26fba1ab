//! A value of the file, before its key's kind has read it.

/// A value of the file, without its type's spelling.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// `true`, `false`.
    Bool(bool),
    /// A whole number.
    Number(i64),
    /// A text.
    Text(String),
    /// A list of texts (numbers as their text).
    List(Vec<String>),
}

impl Value {
    /// The value that a default stands for, as TOML spells it.
    pub(crate) fn of_default(text: &str) -> Self {
        let item: toml_edit::Value = text.parse().unwrap_or_else(|_| unreachable!("default {text:?} is TOML"));
        Self::of(&item).unwrap_or_else(|_| unreachable!("default {text:?} is simple"))
    }

    /// From TOML.
    ///
    /// # Errors
    /// What may be written instead.
    pub(crate) fn of(value: &toml_edit::Value) -> Result<Self, String> {
        Ok(match value {
            toml_edit::Value::Boolean(b) => Self::Bool(*b.value()),
            toml_edit::Value::Integer(n) => Self::Number(*n.value()),
            toml_edit::Value::String(s) => Self::Text(s.value().clone()),
            toml_edit::Value::Array(array) => Self::List(
                array
                    .iter()
                    .map(|item| match Self::of(item)? {
                        Self::Text(text) => Ok(text),
                        Self::Number(number) => Ok(number.to_string()),
                        Self::Bool(_) | Self::List(_) => Err("a list of texts or numbers is expected".to_owned()),
                    })
                    .collect::<Result<_, String>>()?,
            ),
            toml_edit::Value::Float(_) | toml_edit::Value::Datetime(_) | toml_edit::Value::InlineTable(_) => {
                return Err("a switch, whole number, text or list is expected".to_owned());
            }
        })
    }

    /// Also FastNetMon's `enable`, `disable`, `on`, `off`.
    pub(crate) fn switch(&self) -> Result<bool, String> {
        match self {
            Self::Bool(value) => Ok(*value),
            Self::Text(text) => match text.as_str() {
                "enable" | "on" | "true" => Ok(true),
                "disable" | "off" | "false" => Ok(false),
                _ => Err("write true or false".to_owned()),
            },
            Self::Number(_) | Self::List(_) => Err("write true or false".to_owned()),
        }
    }

    pub(crate) fn text(&self) -> Result<&str, String> {
        if let Self::Text(text) = self { Ok(text) } else { Err("write a text in quotation marks".to_owned()) }
    }

    /// A text is a list of one.
    pub(crate) fn list(&self) -> Result<Vec<&str>, String> {
        match self {
            Self::List(list) => Ok(list.iter().map(String::as_str).collect()),
            Self::Text(text) => Ok(vec![text]),
            Self::Bool(_) | Self::Number(_) => Err("write a list, such as [\"a\", \"b\"]".to_owned()),
        }
    }

    /// A number is a list of one too.
    pub(crate) fn list_or_number(&self) -> Result<Vec<String>, String> {
        match self {
            Self::Number(number) => Ok(vec![number.to_string()]),
            Self::Bool(_) | Self::Text(_) | Self::List(_) => Ok(self.list()?.into_iter().map(str::to_owned).collect()),
        }
    }
}
