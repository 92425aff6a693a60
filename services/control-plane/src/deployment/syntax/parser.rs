//! From tokens to an expression, by recursive descent that knows how deep it is.

use super::lexer::{Kind, Token};
use super::{Expression, MAX_DEPTH};

/// An expression and how deep it is.
type Parsed = (Expression, usize);

/// The expression that `tokens` are, all of them.
pub(super) fn parse(tokens: &[Token]) -> Result<Expression, String> {
    let mut parser = Parser { tokens, next: 0 };
    if tokens.is_empty() {
        return Err("there is nothing between the brackets, at character 1".to_owned());
    }
    let (expression, _) = parser.expression(1)?;
    match parser.peek() {
        None => Ok(expression),
        Some(_) => Err(parser.expected("the end")),
    }
}

struct Parser<'a> {
    tokens: &'a [Token],
    next: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a Kind> {
        self.tokens.get(self.next).map(|token| &token.kind)
    }

    fn take(&mut self, mark: char) -> bool {
        let found = self.peek() == Some(&Kind::Mark(mark));
        self.next += usize::from(found);
        found
    }

    fn expected(&self, what: &str) -> String {
        let at = match (self.tokens.get(self.next), self.tokens.last()) {
            (Some(token), _) => token.at + 1,
            (None, last) => last.map_or(1, |token| token.at + 2),
        };
        format!("expected {what}, at character {at}")
    }

    /// `level`: how deep the place is at which the expression stands.
    fn expression(&mut self, level: usize) -> Result<Parsed, String> {
        let (mut expression, mut depth) = self.primary(level)?;
        loop {
            let inner = if self.take('.') {
                let Some(Kind::Name(name)) = self.peek() else {
                    return Err(self.expected("the name of a property"));
                };
                self.next += 1;
                expression = Expression::Property(Box::new(expression), name.clone());
                0
            } else if self.take('[') {
                let (index, deep) = self.expression(level + 1)?;
                if !self.take(']') {
                    return Err(self.expected("]"));
                }
                expression = Expression::Index(Box::new(expression), Box::new(index));
                deep
            } else {
                return Ok((expression, depth));
            };
            depth = bounded(level, depth.max(inner) + 1)?;
        }
    }

    fn primary(&mut self, level: usize) -> Result<Parsed, String> {
        let leaf = match self.peek() {
            Some(Kind::Text(text)) => Expression::Text(text.clone()),
            Some(Kind::Number(number)) => Expression::Number(*number),
            Some(Kind::Name(name)) => {
                self.next += 1;
                return self.call(name, level);
            }
            _ => return Err(self.expected("a value")),
        };
        self.next += 1;
        Ok((leaf, 1))
    }

    fn call(&mut self, name: &str, level: usize) -> Result<Parsed, String> {
        if !self.take('(') {
            return Err(self.expected(&format!("( behind {name}")));
        }
        let (mut arguments, mut deepest) = (Vec::new(), 0);
        if !self.take(')') {
            bounded(level, 1)?;
            loop {
                let (argument, depth) = self.expression(level + 1)?;
                arguments.push(argument);
                deepest = deepest.max(depth);
                if self.take(')') {
                    break;
                }
                if !self.take(',') {
                    return Err(self.expected(", or )"));
                }
            }
        }
        Ok((Expression::Call { name: name.to_owned(), arguments }, bounded(level, deepest + 1)?))
    }
}

fn bounded(level: usize, depth: usize) -> Result<usize, String> {
    match level + depth > MAX_DEPTH + 1 {
        true => Err(format!("the expression is more than {MAX_DEPTH} deep")),
        false => Ok(depth),
    }
}
