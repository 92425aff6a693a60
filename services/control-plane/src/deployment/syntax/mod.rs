//! The language between `[` and `]` in the strings of a template.

mod lexer;
mod parser;

/// The longest expression, in bytes: Azure Resource Manager's own bound is 24,576 characters.
pub(super) const MAX_EXPRESSION: usize = 24_576;

/// How deep an expression may be: calls in calls, and what is taken out of their results.
pub(super) const MAX_DEPTH: usize = 48;

/// An expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expression {
    /// `'text'`.
    Text(String),
    /// `42`.
    Number(i64),
    /// `name(…)`.
    Call {
        /// The function, as it was written.
        name: String,
        /// Its arguments.
        arguments: Vec<Expression>,
    },
    /// `….name`.
    Property(Box<Expression>, String),
    /// `…[0]` and `…['name']`.
    Index(Box<Expression>, Box<Expression>),
}

impl Expression {
    /// Calls `visit` with every function call in it, the outer ones first.
    pub(super) fn calls<'a>(&'a self, visit: &mut impl FnMut(&'a str, &'a [Expression])) {
        match self {
            Self::Text(_) | Self::Number(_) => {}
            Self::Call { name, arguments } => {
                visit(name, arguments);
                arguments.iter().for_each(|argument| argument.calls(visit));
            }
            Self::Property(of, _) => of.calls(visit),
            Self::Index(of, by) => {
                of.calls(visit);
                by.calls(visit);
            }
        }
    }
}

/// What a string of a template is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reading<'a> {
    /// Itself, without the bracket that escapes another one.
    Literal(&'a str),
    /// An expression.
    Expression(Expression),
}

/// Reads a string of a template: `[…]` is an expression, `[[…` stands for `[…`.
///
/// # Errors
/// What is wrong with the expression, and at which character.
pub(super) fn read(text: &str) -> Result<Reading<'_>, String> {
    if text.starts_with("[[") {
        return Ok(Reading::Literal(&text[1..]));
    }
    let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) else {
        return Ok(Reading::Literal(text));
    };
    if inner.len() > MAX_EXPRESSION {
        return Err(format!(
            "the expression has {} bytes, and {MAX_EXPRESSION} is the most there can be",
            inner.len()
        ));
    }
    parser::parse(&lexer::tokens(inner)?).map(Reading::Expression)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Box<Expression> {
        Box::new(Expression::Text(text.to_owned()))
    }

    fn call(name: &str, arguments: &[Expression]) -> Expression {
        Expression::Call { name: name.to_owned(), arguments: arguments.to_vec() }
    }

    #[test]
    fn a_string_is_a_literal_unless_brackets_enclose_it() {
        for (written, literal) in [
            ("", ""),
            ("plain", "plain"),
            ("[open", "[open"),
            ("close]", "close]"),
            ("[[parameters('x')]", "[parameters('x')]"),
            ("[[", "["),
            (" [f()]", " [f()]"),
        ] {
            assert_eq!(read(written), Ok(Reading::Literal(literal)), "{written}");
        }
    }

    #[test]
    fn calls_properties_and_indexes_nest() {
        let expected = Expression::Index(
            Box::new(Expression::Property(
                Box::new(call("f", &[*text("it's"), call("g", &[]), Expression::Number(-7)])),
                "value".to_owned(),
            )),
            text("key"),
        );
        let read = read("[ f( 'it''s' , g(), -7 ).value['key'] ]");
        assert_eq!(read, Ok(Reading::Expression(expected)));
    }

    #[test]
    fn what_is_no_expression_is_refused_with_its_place() {
        for (written, why) in [
            ("[]", "there is nothing"),
            ("[f(]", "expected a value"),
            ("[f('x']", "expected , or )"),
            ("[f('x)]", "is not closed"),
            ("[f() g()]", "expected the end"),
            ("[f().]", "expected the name of a property"),
            ("[f()[0]", "expected ]"),
            ("[name]", "expected ( behind name"),
            ("[f(,)]", "expected a value"),
            ("[f(x{y})]", "'{'"),
            ("[f(99999999999999999999)]", "does not fit"),
            ("[a.b()]", "expected ( behind a"),
        ] {
            let error = read(written).expect_err(written);
            assert!(error.contains(why), "{written}: {error}");
            assert!(error.contains("character"), "{written}: {error}");
        }
    }

    #[test]
    fn depth_and_length_are_bounded() {
        let nested = |count: usize| format!("[{}1{}]", "f(".repeat(count), ")".repeat(count));
        assert!(read(&nested(MAX_DEPTH - 1)).is_ok());
        for deep in [
            nested(MAX_DEPTH),
            nested(8000),
            format!("[f(){}]", ".a".repeat(MAX_DEPTH)),
            format!("[f(){}]", "[0]".repeat(8000)),
        ] {
            assert!(read(&deep).expect_err("it is too deep").contains("deep"), "{deep}");
        }
        let long = format!("[f('{}')]", "a".repeat(MAX_EXPRESSION));
        assert!(read(&long).expect_err("it is too long").contains("bytes"));
    }
}
