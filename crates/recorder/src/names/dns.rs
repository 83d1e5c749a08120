//! Decodes DNS messages (RFC 1035): the question, and the answers that give addresses or other names.
//!
//! The bytes come from the network. A general decoder reads every type of record, which is much to get wrong for the four fields that matter
//! here, follows chains of compression pointers from each record anew, and gives nothing of a message of which a part is missing. This one
//! takes time in proportion to the message and keeps what a cut message has.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How many records of a message are kept.
const RECORDS: usize = 512;
/// A name is 255 bytes at most (RFC 1035, 2.3.4), and each pointer in it stands for a label at least in any message of good will.
const NAME_BYTES: usize = 255;
const POINTERS: usize = 127;

const CLASS_IN: u16 = 1;
const TYPE_A: u16 = 1;
const TYPE_CNAME: u16 = 5;
const TYPE_AAAA: u16 = 28;

/// Why bytes are no DNS message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// They end too early.
    #[error("the message ends inside of a field")]
    Short,
    /// A name is longer than 255 bytes, has a label of an unknown kind, or pointers that do not lead backwards.
    #[error("a name is malformed")]
    Name,
    /// An address has not the length of its type.
    #[error("an address has the wrong length")]
    Address,
}

/// What matters of a message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// Chosen by who asks, repeated in the answer.
    pub id: u16,
    /// It is an answer.
    pub response: bool,
    /// The first question. `None` where there is none, and in messages that are no queries.
    pub question: Option<Question>,
    /// Addresses and aliases of the answer section, in order.
    pub records: Vec<Record>,
    /// How many more of them there were.
    pub more: usize,
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Question {
    /// The name, as [`decode`] writes names.
    pub name: String,
    /// The type that is asked for.
    pub qtype: u16,
}

/// A record of class IN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The name that it is about.
    pub owner: String,
    /// How long it may be kept, seconds.
    pub ttl: u32,
    /// What it says.
    pub data: Data,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// A or AAAA.
    Address(IpAddr),
    /// CNAME.
    Alias(String),
}

/// Decodes a message. Of one that was cut, everything before the cut is given.
///
/// Names are written in lower case, without the final dot (the root is empty); a byte that is no printable ASCII, a blank, a backslash, and a
/// dot inside a label become `\DDD` (RFC 4343), so that a name is one word and two names are equal when their texts are.
pub fn decode(bytes: &[u8], cut: bool) -> Result<Message, Malformed> {
    let mut reader = Reader { bytes, at: 0 };
    let id = reader.u16()?;
    let flags = reader.u16()?;
    let [questions, answers] = [reader.u16()?, reader.u16()?];
    reader.skip(4)?;
    let mut message = Message { id, response: flags & 0x8000 != 0, ..Message::default() };
    if flags >> 11 & 15 != 0 {
        return Ok(message);
    }
    for n in 0..questions {
        if n == 0 {
            let name = reader.name()?;
            message.question = Some(Question { name, qtype: reader.u16()? });
        } else {
            reader.skip_name()?;
            reader.skip(2)?;
        }
        reader.skip(2)?;
    }
    for _ in 0..answers {
        match reader.record(message.records.len() < RECORDS) {
            Ok(Some(record)) if message.records.len() < RECORDS => message.records.push(record),
            Ok(Some(_)) => message.more += 1,
            Ok(None) => {}
            Err(Malformed::Short) if cut => break,
            Err(error) => return Err(error),
        }
    }
    Ok(message)
}

/// Appends a label, or a part of one, as [`decode`] writes it.
pub(crate) fn push_label(out: &mut String, label: &[u8]) {
    for &byte in label {
        match byte {
            b'.' | b'\\' | ..=b' ' | 0x7f.. => {
                out.push('\\');
                for digit in [byte / 100, byte / 10 % 10, byte % 10] {
                    out.push(char::from(b'0' + digit));
                }
            }
            _ => out.push(char::from(byte.to_ascii_lowercase())),
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(count).ok_or(Malformed::Short)?;
        let taken = self.bytes.get(self.at..end).ok_or(Malformed::Short)?;
        self.at = end;
        Ok(taken)
    }

    fn skip(&mut self, count: usize) -> Result<(), Malformed> {
        self.take(count).map(|_| ())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed::Short)
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    /// The next record; `None` for one that does not matter. Unless it is wanted, it is only passed over.
    fn record(&mut self, wanted: bool) -> Result<Option<Record>, Malformed> {
        let start = self.at;
        self.skip_name()?;
        let [kind, class] = [self.u16()?, self.u16()?];
        let ttl = u32::from_be_bytes(self.array()?);
        let length = usize::from(self.u16()?);
        let rdata = self.at;
        let bytes = self.take(length)?;
        if class != CLASS_IN || !matches!(kind, TYPE_A | TYPE_AAAA | TYPE_CNAME) {
            return Ok(None);
        }
        let data = match kind {
            TYPE_CNAME if wanted => {
                let mut reader = Reader { bytes: &self.bytes[..self.at], at: rdata };
                let alias = reader.name()?;
                if reader.at != self.at {
                    return Err(Malformed::Name);
                }
                Data::Alias(alias)
            }
            TYPE_CNAME => Data::Alias(String::new()),
            TYPE_A => {
                let octets: [u8; 4] = bytes.try_into().map_err(|_| Malformed::Address)?;
                Data::Address(Ipv4Addr::from(octets).into())
            }
            _ => {
                let octets: [u8; 16] = bytes.try_into().map_err(|_| Malformed::Address)?;
                Data::Address(Ipv6Addr::from(octets).into())
            }
        };
        let owner = if wanted { Reader { bytes: self.bytes, at: start }.name()? } else { String::new() };
        Ok(Some(Record { owner, ttl, data }))
    }

    /// Passes over a name without following pointers.
    fn skip_name(&mut self) -> Result<(), Malformed> {
        loop {
            match self.u8()? {
                0 => return Ok(()),
                length @ ..=0x3f => self.skip(usize::from(length))?,
                0xc0.. => return self.skip(1),
                _ => return Err(Malformed::Name),
            }
        }
    }

    fn name(&mut self) -> Result<String, Malformed> {
        let mut text = String::new();
        let mut left = NAME_BYTES;
        let mut reader = Reader { bytes: self.bytes, at: self.at };
        // Each pointer must lead to before the labels that it ends: so there is an end.
        let mut before = self.at;
        for jumps in 0..=POINTERS {
            let target = loop {
                match reader.u8()? {
                    0 => break None,
                    length @ ..=0x3f => {
                        let label = reader.take(usize::from(length))?;
                        left = left
                            .checked_sub(1 + label.len())
                            .filter(|&left| left > 0)
                            .ok_or(Malformed::Name)?;
                        if !text.is_empty() {
                            text.push('.');
                        }
                        push_label(&mut text, label);
                    }
                    high @ 0xc0.. => break Some(usize::from(high & 0x3f) << 8 | usize::from(reader.u8()?)),
                    _ => return Err(Malformed::Name),
                }
            };
            if jumps == 0 {
                self.at = reader.at;
            }
            match target {
                None => return Ok(text),
                Some(target) if target < before => (reader.at, before) = (target, target),
                Some(_) => return Err(Malformed::Name),
            }
        }
        Err(Malformed::Name)
    }
}
