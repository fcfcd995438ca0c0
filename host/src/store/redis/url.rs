//! Where a URL leads. Nothing of it is quoted in errors, as it may hold a password.

use std::fmt;
use std::path::PathBuf;

use super::config::RedisConfigError;

/// The place of one server. As text it is `host:port` or the path of a socket.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Address {
    Tcp(String, u16),
    Unix(PathBuf),
}

impl Address {
    /// Reads `host:port`, as servers announce each other; the host may be an IPv6 address without brackets.
    pub(super) fn announced(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        Some(Self::Tcp(host.to_owned(), port.parse().ok()?))
    }

    pub(super) fn host(&self) -> Option<&str> {
        match self {
            Self::Tcp(host, _) => Some(host),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// Who to be on a server, and what to choose there.
#[derive(Clone, Default)]
pub(super) struct Login {
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
    pub(super) database: u32,
    /// `None`: as it is needed.
    pub(super) resp3: Option<bool>,
}

/// What kind of deployment, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Single(Address),
    Cluster(Vec<Address>),
    Sentinel { sentinels: Vec<Address>, master: String },
}

impl Place {
    pub(super) fn has_replicas(&self) -> bool {
        !matches!(self, Self::Single(_))
    }

    pub(super) fn is_sentinel(&self) -> bool {
        matches!(self, Self::Sentinel { .. })
    }
}

/// All that a URL says. As text it is the place, without user and password.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) place: Place,
    pub(super) login: Login,
    pub(super) tls: bool,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, nodes: &[Address]| {
            nodes
                .iter()
                .enumerate()
                .try_for_each(|(number, node)| write!(f, "{}{node}", if number > 0 { "," } else { "" }))
        };
        match &self.place {
            Place::Single(address) => write!(f, "{address}/{}", self.login.database),
            Place::Cluster(nodes) => list(f, nodes),
            Place::Sentinel { sentinels, master } => {
                list(f, sentinels)?;
                write!(f, "/{master}/{}", self.login.database)
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Tcp,
    Unix,
    Cluster,
    Sentinel,
}

impl Target {
    pub(super) fn parse(url: &str) -> Result<Self, RedisConfigError> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| refusal(EXPECTED))?;
        let (tls, form) = form(scheme)?;
        // An unescaped `#` or `?` in a password ends the address there; without these checks the wrong server is asked.
        if rest.contains('#') {
            return refuse("it has a fragment; a `#` in user or password is written %23");
        }
        let (rest, query) = rest.split_once('?').map_or((rest, ""), |(rest, query)| (rest, query));
        let mut target = if form == Form::Unix { unix(rest)? } else { network(form, rest)? };
        target.tls = tls;
        target.take_query(query, form)?;
        Ok(target)
    }

    fn take_query(&mut self, query: &str, form: Form) -> Result<(), RedisConfigError> {
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match (name, form) {
                ("protocol", _) => {
                    self.login.resp3 = match value {
                        "resp3" | "3" => Some(true),
                        "resp2" | "2" => Some(false),
                        _ => return refuse("the protocol is neither resp2 nor resp3"),
                    };
                }
                ("db", Form::Unix) => self.login.database = database(value)?,
                ("user", Form::Unix) => self.login.username = Some(decode(value)?),
                ("pass", Form::Unix) => self.login.password = Some(decode(value)?),
                _ => return refuse("it has an unknown parameter; a `?` in user or password is written %3F"),
            }
        }
        Ok(())
    }
}

const EXPECTED: &str = "expected redis://[user][:password@]host[:port][/database], rediss://… for TLS, \
    redis+unix:///path, redis://host:port,host:port for a Cluster, or redis+sentinel://host:port,host:port/name";

fn refusal(why: &str) -> RedisConfigError {
    RedisConfigError::Url(why.into())
}

fn refuse<T>(why: &str) -> Result<T, RedisConfigError> {
    Err(refusal(why))
}

fn form(scheme: &str) -> Result<(bool, Form), RedisConfigError> {
    let (base, kind) = scheme.split_once('+').map_or((scheme, None), |(base, kind)| (base, Some(kind)));
    let tls = match base {
        "unix" if kind.is_none() => return Ok((false, Form::Unix)),
        "redis" | "valkey" => false,
        "rediss" | "valkeys" => true,
        _ => return refuse(EXPECTED),
    };
    match kind {
        None => Ok((tls, Form::Tcp)),
        Some("unix") if !tls => Ok((false, Form::Unix)),
        Some("cluster") => Ok((tls, Form::Cluster)),
        Some("sentinel") => Ok((tls, Form::Sentinel)),
        Some(_) => refuse(EXPECTED),
    }
}

fn unix(rest: &str) -> Result<Target, RedisConfigError> {
    if !rest.starts_with('/') || rest.len() < 2 {
        return refuse("a socket is named by its whole path: redis+unix:///path");
    }
    let place = Place::Single(Address::Unix(decode(rest)?.into()));
    Ok(Target { place, login: Login::default(), tls: false })
}

fn network(form: Form, rest: &str) -> Result<Target, RedisConfigError> {
    let (authority, path) = rest.split_once('/').map_or((rest, ""), |(authority, path)| (authority, path));
    let (user, hosts) = authority.rsplit_once('@').map_or(("", authority), |(user, hosts)| (user, hosts));
    let port = if form == Form::Sentinel { 26_379 } else { 6_379 };
    let mut nodes = hosts.split(',').map(|host| address(host, port)).collect::<Result<Vec<_>, _>>()?;
    let mut login = login(user)?;
    let many = nodes.len() > 1;
    let place = match form {
        Form::Sentinel => {
            let (master, number) = path.split_once('/').unwrap_or((path, ""));
            if master.is_empty() {
                return refuse("it does not say by which name the Sentinels know the primary: …/name");
            }
            login.database = database(number)?;
            Place::Sentinel { sentinels: nodes, master: decode(master)? }
        }
        Form::Cluster | Form::Tcp if many || form == Form::Cluster => {
            if database(path)? != 0 {
                return refuse("a Cluster has database 0 only");
            }
            Place::Cluster(nodes)
        }
        _ => {
            login.database = database(path)?;
            Place::Single(nodes.remove(0))
        }
    };
    Ok(Target { place, login, tls: false })
}

fn address(text: &str, default_port: u16) -> Result<Address, RedisConfigError> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or_else(|| refusal("a port follows a colon"))?)),
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let known = |char: char| char.is_alphanumeric() || matches!(char, '.' | '-' | '_' | ':');
    if host.is_empty() || !host.chars().all(known) {
        return refuse("a host is missing, or is no host name");
    }
    if matches!(host, "0.0.0.0" | "::") {
        return refuse("no server has the address of all of them");
    }
    let port = match port {
        None => default_port,
        Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or_else(|| refusal("a port is not a number"))?,
    };
    Ok(Address::Tcp(host.to_owned(), port))
}

fn login(user: &str) -> Result<Login, RedisConfigError> {
    let (username, password) = user.split_once(':').map_or((user, None), |(name, password)| (name, Some(password)));
    let username = Some(decode(username)?).filter(|name| !name.is_empty());
    let password = password.map(decode).transpose()?.filter(|password| !password.is_empty());
    if username.is_some() && password.is_none() {
        return refuse("it names a user without a password");
    }
    Ok(Login { username, password, ..Login::default() })
}

fn database(text: &str) -> Result<u32, RedisConfigError> {
    if text.is_empty() {
        return Ok(0);
    }
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| plain).ok_or_else(|| refusal("the database is not a number from zero up"))
}

/// Undoes percent-encoding.
fn decode(text: &str) -> Result<String, RedisConfigError> {
    let malformed = || refusal("a % is not followed by two hexadecimal digits, or what they encode is no text");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2).ok_or_else(malformed)?;
        let digits = std::str::from_utf8(digits).map_err(|_| malformed())?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| malformed())?);
        rest = after;
    }
    String::from_utf8(bytes).map_err(|_| malformed())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(url: &str) -> Place {
        Target::parse(url).unwrap_or_else(|error| panic!("{url}: {error}")).place
    }

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp(host.into(), port)
    }

    #[test]
    fn each_deployment_has_its_url() {
        assert_eq!(place("redis://localhost"), Place::Single(tcp("localhost", 6379)));
        assert_eq!(place("valkeys://[::1]:7000/2"), Place::Single(tcp("::1", 7000)));
        assert_eq!(place("redis+unix:///run/a%20b.sock?db=1"), Place::Single(Address::Unix("/run/a b.sock".into())));
        assert_eq!(place("redis://u:p@a:1,b"), Place::Cluster(vec![tcp("a", 1), tcp("b", 6379)]));
        assert_eq!(place("redis+cluster://a"), Place::Cluster(vec![tcp("a", 6379)]));
        let sentinels = vec![tcp("a", 26_379), tcp("b", 1)];
        assert_eq!(place("rediss+sentinel://a,b:1/main/3"), Place::Sentinel { sentinels, master: "main".into() });
    }

    #[test]
    fn login_and_database_are_taken_apart() {
        let target = Target::parse("rediss://a%3Ab:p%40:s@h:1/7?protocol=resp3").expect("a good URL");
        assert_eq!(target.login.username.as_deref(), Some("a:b"));
        assert_eq!(target.login.password.as_deref(), Some("p@:s"));
        assert!(target.login.database == 7 && target.tls && target.login.resp3 == Some(true));
        assert_eq!(target.to_string(), "h:1/7");
    }

    #[test]
    fn what_leads_nowhere_is_refused() {
        for url in [
            "redis://a,,b",
            "redis://a,b/1",
            "redis+cluster://a/2",
            "redis+sentinel://a",
            "redis+sentinel://a/m/x",
            "redis+smoke://a",
            "rediss+unix:///a",
            "redis+unix://a",
            "redis://u@a",
            "redis://%zz:p@a",
            "redis://[::1",
            "redis://a:0",
            "redis://a:70000",
            "redis://a/+1",
            "redis://a:1:2",
            "redis://a b",
        ] {
            assert!(matches!(Target::parse(url), Err(RedisConfigError::Url(_))), "{url}");
        }
    }
}
