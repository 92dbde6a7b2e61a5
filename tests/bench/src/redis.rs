//! RESP, as far as SET and GET need it.

use std::collections::VecDeque;

use bytes::{BufMut, BytesMut};
use raftctl::bench::load::{Action, KEY_BYTES, Material, Operation};
use raftctl::bench::protocol::{Answer, Protocol, Token};

/// One connection. Replies come in the order of the commands.
#[derive(Debug, Default)]
pub struct Redis {
    waiting: VecDeque<(Token, Action)>,
    greeted: bool,
}

impl Protocol for Redis {
    fn open(&mut self, out: &mut BytesMut) {
        self.waiting.clear();
        self.greeted = false;
        out.put_slice(b"*1\r\n$4\r\nPING\r\n");
    }

    fn send(
        &mut self,
        token: Token,
        operation: Operation,
        _again: bool,
        material: &Material,
        out: &mut BytesMut,
    ) {
        self.waiting.push_back((token, operation.action));
        let key = material.key(operation.key);
        match operation.action {
            Action::Put => {
                let value = material.value(operation.value);
                out.reserve(value.len() + KEY_BYTES + 64);
                out.put_slice(b"*3\r\n$3\r\nSET\r\n$16\r\n");
                out.put_slice(&key);
                out.put_slice(b"\r\n$");
                put_decimal(value.len(), out);
                out.put_slice(b"\r\n");
                out.put_slice(value);
                out.put_slice(b"\r\n");
            }
            Action::Get => {
                out.put_slice(b"*2\r\n$3\r\nGET\r\n$16\r\n");
                out.put_slice(&key);
                out.put_slice(b"\r\n");
            }
            Action::Delete => {
                out.put_slice(b"*2\r\n$3\r\nDEL\r\n$16\r\n");
                out.put_slice(&key);
                out.put_slice(b"\r\n");
            }
        }
    }

    fn receive(
        &mut self,
        input: &[u8],
        answers: &mut Vec<Answer>,
        _out: &mut BytesMut,
    ) -> Result<usize, String> {
        let mut used = 0;
        while let Some(reply) = parse(&input[used..])? {
            used += reply.bytes;
            if !self.greeted {
                self.greeted = true;
                answers.push(Answer::Ready);
                continue;
            }
            let Some((token, action)) = self.waiting.pop_front() else {
                return Err("a reply to nothing".into());
            };
            let good = match reply.kind {
                b'+' => action == Action::Put,
                b'$' => action == Action::Get && !reply.nil,
                b':' => action == Action::Delete,
                _ => false,
            };
            answers.push(if good {
                Answer::Done { token, revision: 0 }
            } else {
                Answer::Refused { token }
            });
        }
        Ok(used)
    }
}

struct Reply {
    kind: u8,
    nil: bool,
    bytes: usize,
}

/// The reply at the front, if it is whole.
fn parse(input: &[u8]) -> Result<Option<Reply>, String> {
    let Some(end) = input.windows(2).position(|pair| pair == b"\r\n") else {
        return Ok(None);
    };
    let line = &input[..end];
    let (&kind, rest) = line.split_first().ok_or("an empty reply")?;
    let mut bytes = end + 2;
    let mut nil = false;
    if kind == b'$' {
        let text = std::str::from_utf8(rest).map_err(|error| error.to_string())?;
        let length: i64 = text.parse().map_err(|_| format!("bad length {text}"))?;
        match usize::try_from(length) {
            Ok(length) => bytes += length + 2,
            Err(_) => nil = true,
        }
    }
    Ok((input.len() >= bytes).then_some(Reply { kind, nil, bytes }))
}

fn put_decimal(number: usize, out: &mut BytesMut) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).expect("a digit");
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.put_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_matched_in_order() {
        let mut redis = Redis {
            waiting: [(4, Action::Put), (2, Action::Get), (9, Action::Get)].into(),
            greeted: true,
        };
        let mut answers = Vec::new();
        let input = b"+OK\r\n$3\r\nabc\r\n$-1\r\n+O";
        let used = redis
            .receive(input, &mut answers, &mut BytesMut::new())
            .unwrap();
        assert_eq!(used, input.len() - 2);
        assert_eq!(
            answers,
            [
                Answer::Done {
                    token: 4,
                    revision: 0
                },
                Answer::Done {
                    token: 2,
                    revision: 0
                },
                Answer::Refused { token: 9 },
            ]
        );
    }

    #[test]
    fn lengths_are_decimal() {
        let mut out = BytesMut::new();
        put_decimal(0, &mut out);
        put_decimal(256, &mut out);
        assert_eq!(&out[..], b"0256");
    }
}
