use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// What a DNS server said about a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It has these addresses.
    Addresses(Vec<IpAddr>),
    /// There is no such name (NXDOMAIN).
    NoName,
    /// Another response code.
    Other(u8),
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Addresses(addresses) if addresses.is_empty() => f.pad("no address"),
            Self::Addresses(addresses) => {
                f.pad(&addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", "))
            }
            Self::NoName => f.pad("NXDOMAIN"),
            Self::Other(code) => write!(f, "rcode {code}"),
        }
    }
}

const A: u16 = 1;
const AAAA: u16 = 28;
/// How long a question may stay unanswered.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);

/// Asks `server` (port 53) over UDP for the A or AAAA records of `name`, from the calling thread's namespace.
///
/// # Errors
/// No answer, or one that is no answer to this question.
pub fn ask(server: IpAddr, name: &str, ipv6: bool) -> io::Result<Answer> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect((server, 53))?;
    let question = question(name, if ipv6 { AAAA } else { A })?;
    socket.send(&question)?;
    let mut buffer = [0; 1500];
    let length = socket.recv(&mut buffer)?;
    parse(&question, &buffer[..length]).map_err(|what| io::Error::other(format!("the answer about {name}: {what}")))
}

/// RFC 1035 section 4.1: id, RD, one question of class IN.
fn question(name: &str, kind: u16) -> io::Result<Vec<u8>> {
    let mut out = vec![0x5e, 0x1f, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.trim_end_matches('.').split('.') {
        out.push(u8::try_from(label.len()).map_err(io::Error::other)?);
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&1_u16.to_be_bytes());
    Ok(out)
}

fn parse(question: &[u8], answer: &[u8]) -> Result<Answer, &'static str> {
    let header = answer.first_chunk::<12>().ok_or("cut short")?;
    if header[..2] != question[..2] || header[2] & 0x80 == 0 {
        return Err("not an answer to this question");
    }
    if answer.get(12..question.len()) != Some(&question[12..]) {
        return Err("the question is not repeated");
    }
    match header[3] & 0xf {
        0 => {}
        3 => return Ok(Answer::NoName),
        code => return Ok(Answer::Other(code)),
    }
    let mut addresses = Vec::new();
    let mut rest = &answer[question.len()..];
    for _ in 0..u16::from_be_bytes([header[6], header[7]]) {
        let record = after_name(rest).ok_or("a record's name is cut short")?;
        let fixed = record.first_chunk::<10>().ok_or("a record is cut short")?;
        let length = usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
        let data = record.get(10..10 + length).ok_or("a record's data is cut short")?;
        match (u16::from_be_bytes([fixed[0], fixed[1]]), data.len()) {
            (A, 4) => addresses.extend(<[u8; 4]>::try_from(data).map(IpAddr::from)),
            (AAAA, 16) => addresses.extend(<[u8; 16]>::try_from(data).map(IpAddr::from)),
            _ => {}
        }
        rest = &record[10 + length..];
    }
    Ok(Answer::Addresses(addresses))
}

/// What follows a name, which ends with a zero octet or a pointer (RFC 1035 section 4.1.4).
fn after_name(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        match *rest.first()? {
            0 => return rest.get(1..),
            0xc0.. => return rest.get(2..),
            length => rest = rest.get(1 + usize::from(length)..)?,
        }
    }
}
