//! Conditions on edges: `$ctx.review.status == 'OK' and not exists($ctx.error)`.

use std::cmp::Ordering;

use serde_json::Value;

use crate::context::Context;

/// A condition that can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("condition `{text}`: {reason} at column {column}")]
pub struct ExpressionError {
    /// The condition.
    pub text: String,
    /// What is wrong.
    pub reason: String,
    /// Where, from 1.
    pub column: usize,
}

/// A condition that was read.
#[derive(Debug, Clone, PartialEq)]
pub enum Expression {
    /// A constant.
    Constant(Value),
    /// A value of the context; `null` when it is not there.
    Path(String),
    /// Whether a path is there.
    Exists(String),
    /// Not.
    Not(Box<Expression>),
    /// Both.
    And(Box<Expression>, Box<Expression>),
    /// Either.
    Or(Box<Expression>, Box<Expression>),
    /// A comparison.
    Compare(Box<Expression>, Comparison, Box<Expression>),
}

/// How two values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl Expression {
    /// Longest condition, in bytes; with [`Self::DEEPEST`] it bounds the stack that reading,
    /// evaluating and dropping take.
    const LONGEST: usize = 1024;
    /// Deepest nesting of brackets and `not`.
    const DEEPEST: usize = 32;

    /// Reads a condition.
    ///
    /// # Errors
    /// [`ExpressionError`] with the column.
    pub fn parse(text: &str) -> Result<Self, ExpressionError> {
        let mut parser = Parser {
            text,
            at: 0,
            depth: 0,
        };
        if text.len() > Self::LONGEST {
            return Err(parser.error(&format!("longer than {} bytes", Self::LONGEST)));
        }
        let expression = parser.or()?;
        parser.space();
        if parser.at < text.len() {
            return Err(parser.error("nothing more was expected"));
        }
        Ok(expression)
    }

    /// Whether the condition holds. `false`, `null`, 0, and what is empty do not.
    pub fn holds(&self, ctx: &Context) -> bool {
        match self.value(ctx) {
            Value::Null => false,
            Value::Bool(value) => value,
            Value::Number(number) => number.as_f64() != Some(0.0),
            Value::String(text) => !text.is_empty(),
            Value::Array(items) => !items.is_empty(),
            Value::Object(map) => !map.is_empty(),
        }
    }

    fn value(&self, ctx: &Context) -> Value {
        match self {
            Self::Constant(value) => value.clone(),
            Self::Path(path) => ctx.get(path).cloned().unwrap_or(Value::Null),
            Self::Exists(path) => ctx.get(path).is_some().into(),
            Self::Not(inner) => (!inner.holds(ctx)).into(),
            Self::And(left, right) => (left.holds(ctx) && right.holds(ctx)).into(),
            Self::Or(left, right) => (left.holds(ctx) || right.holds(ctx)).into(),
            Self::Compare(left, how, right) => how.of(&left.value(ctx), &right.value(ctx)).into(),
        }
    }
}

impl Comparison {
    const SIGNS: [(&'static str, Self); 6] = [
        ("==", Self::Equal),
        ("!=", Self::NotEqual),
        ("<=", Self::LessOrEqual),
        (">=", Self::GreaterOrEqual),
        ("<", Self::Less),
        (">", Self::Greater),
    ];

    /// Values of different types are unequal and have no order.
    fn of(self, left: &Value, right: &Value) -> bool {
        let order = match (left, right) {
            (Value::Number(left), Value::Number(right)) => {
                left.as_f64().partial_cmp(&right.as_f64())
            }
            (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
            _ => (left == right).then_some(Ordering::Equal),
        };
        match self {
            Self::Equal => order == Some(Ordering::Equal),
            Self::NotEqual => order != Some(Ordering::Equal),
            Self::Less => order == Some(Ordering::Less),
            Self::LessOrEqual => order.is_some_and(Ordering::is_le),
            Self::Greater => order == Some(Ordering::Greater),
            Self::GreaterOrEqual => order.is_some_and(Ordering::is_ge),
        }
    }
}

/// Reads by descent: or, and, not, comparison, operand.
struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn error(&self, reason: &str) -> ExpressionError {
        let column = self.text[..self.at].chars().count() + 1;
        ExpressionError {
            text: self.text.to_owned(),
            reason: reason.to_owned(),
            column,
        }
    }

    fn space(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
    }

    /// Takes a sign if it comes next.
    fn sign(&mut self, sign: &str) -> bool {
        self.space();
        let found = self.text[self.at..].starts_with(sign);
        if found {
            self.at += sign.len();
        }
        found
    }

    /// Takes a word if it comes next and ends there.
    fn word(&mut self, word: &str) -> bool {
        self.space();
        let rest = &self.text[self.at..];
        let ends = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        let found = rest.strip_prefix(word).is_some_and(ends);
        if found {
            self.at += word.len();
        }
        found
    }

    fn take_while(&mut self, test: impl Fn(char) -> bool) -> &'a str {
        let rest = &self.text[self.at..];
        let end = rest.find(|c| !test(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    /// Reads what stands within brackets or after `not`, if that is not too deep.
    fn nested(
        &mut self,
        read: fn(&mut Self) -> Result<Expression, ExpressionError>,
    ) -> Result<Expression, ExpressionError> {
        self.depth += 1;
        if self.depth > Expression::DEEPEST {
            return Err(self.error(&format!("nested deeper than {}", Expression::DEEPEST)));
        }
        let inner = read(self);
        self.depth -= 1;
        inner
    }

    fn or(&mut self) -> Result<Expression, ExpressionError> {
        let mut left = self.and()?;
        while self.word("or") {
            left = Expression::Or(Box::new(left), Box::new(self.and()?));
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Expression, ExpressionError> {
        let mut left = self.not()?;
        while self.word("and") {
            left = Expression::And(Box::new(left), Box::new(self.not()?));
        }
        Ok(left)
    }

    fn not(&mut self) -> Result<Expression, ExpressionError> {
        if self.word("not") {
            return Ok(Expression::Not(Box::new(self.nested(Self::not)?)));
        }
        let left = self.operand()?;
        let found = Comparison::SIGNS.iter().find(|(sign, _)| self.sign(sign));
        match found {
            Some((_, how)) => Ok(Expression::Compare(
                Box::new(left),
                *how,
                Box::new(self.operand()?),
            )),
            None => Ok(left),
        }
    }

    fn operand(&mut self) -> Result<Expression, ExpressionError> {
        if self.sign("(") {
            let inner = self.nested(Self::or)?;
            return if self.sign(")") {
                Ok(inner)
            } else {
                Err(self.error("`)` was expected"))
            };
        }
        if self.word("exists") {
            return self.exists();
        }
        for (word, value) in [
            ("true", Value::Bool(true)),
            ("false", Value::Bool(false)),
            ("null", Value::Null),
        ] {
            if self.word(word) {
                return Ok(Expression::Constant(value));
            }
        }
        self.space();
        match self.text[self.at..].chars().next() {
            Some('$') => self.path().map(Expression::Path),
            Some(quote @ ('\'' | '"')) => self.quoted(quote),
            Some(c) if c.is_ascii_digit() || c == '-' => self.number(),
            _ => Err(self.error("a value was expected")),
        }
    }

    fn exists(&mut self) -> Result<Expression, ExpressionError> {
        if !self.sign("(") {
            return Err(self.error("`(` was expected"));
        }
        self.space();
        let path = self.path()?;
        if self.sign(")") {
            Ok(Expression::Exists(path))
        } else {
            Err(self.error("`)` was expected"))
        }
    }

    fn path(&mut self) -> Result<String, ExpressionError> {
        if !self.sign("$ctx.") {
            return Err(self.error("`$ctx.` was expected"));
        }
        let path = self.take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '[' | ']'));
        if path.is_empty() {
            Err(self.error("a path was expected"))
        } else {
            Ok(path.to_owned())
        }
    }

    fn quoted(&mut self, quote: char) -> Result<Expression, ExpressionError> {
        self.at += quote.len_utf8();
        let text = self.take_while(|c| c != quote).to_owned();
        if self.text[self.at..].is_empty() {
            return Err(self.error("the text does not end"));
        }
        self.at += quote.len_utf8();
        Ok(Expression::Constant(Value::String(text)))
    }

    fn number(&mut self) -> Result<Expression, ExpressionError> {
        let start = self.at;
        let text = self.take_while(|c| c.is_ascii_digit() || matches!(c, '-' | '.'));
        let number = serde_json::from_str(text)
            .map(Value::Number)
            .map(Expression::Constant);
        number.map_err(|_| {
            self.at = start;
            self.error("a number was expected")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn holds(text: &str) -> bool {
        let ctx = Context::new(json!({ "status": "OK", "round": 2, "list": [], "order": "x" }));
        Expression::parse(text).unwrap().holds(&ctx)
    }

    #[test]
    fn conditions_mean_what_they_say() {
        for text in [
            "$ctx.status == 'OK'",
            "$ctx.round < 3 and not $ctx.list",
            "$ctx.missing == null",
            "not exists($ctx.missing) and exists($ctx.order)",
            "$ctx.status != \"NG\" and ($ctx.round >= 5 or $ctx.order == 'x')",
        ] {
            assert!(holds(text), "{text}");
        }
        for text in [
            "$ctx.status == 1",
            "$ctx.status < 3",
            "false or null",
            "not (true)",
        ] {
            assert!(!holds(text), "{text}");
        }
    }

    #[test]
    fn errors_tell_the_column() {
        let error = |text| Expression::parse(text).unwrap_err().to_string();
        assert_eq!(
            error("$ctx.a == "),
            "condition `$ctx.a == `: a value was expected at column 11"
        );
        assert_eq!(
            error("$ctx.a 'b'"),
            "condition `$ctx.a 'b'`: nothing more was expected at column 8"
        );
        assert_eq!(
            error("'a"),
            "condition `'a`: the text does not end at column 3"
        );
    }

    #[test]
    fn a_condition_can_not_exhaust_the_stack() {
        let reason = |text: String| Expression::parse(&text).unwrap_err().reason;
        for nest in ["(", "not "] {
            assert_eq!(reason(nest.repeat(200)), "nested deeper than 32");
        }
        assert_eq!(reason("(".repeat(100_000)), "longer than 1024 bytes");
        assert!(holds(&format!("{}true{}", "(".repeat(32), ")".repeat(32))));
        assert!(!holds(&format!("false{}", " or 0".repeat(200))));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,60}") {
            let _ = Expression::parse(&text);
        }
    }
}
