//! The password of a cache. Its image reads no variable, so that the password is in its command, or is handed to it there.

use crate::model::{Kind, Secret, ServiceSpec};

use super::own::Said;

/// How the command line of a cache says it.
const OPTION: &str = "--requirepass";

/// What the server is told beyond its command line.
const CONFIGURATION: &str = "SKEP_CACHE_CONFIG";

/// Of `redis-cli` and `valkey-cli`, for health checks.
const CLIENT: &str = "REDISCLI_AUTH";

/// Starts what its arguments say by way of the image's entrypoint, if it has one, which gives up root's rights. The server
/// reads its configuration from its input: nothing of it is on a command line.
const START: &str = "exec $(command -v docker-entrypoint.sh) \"$@\" <<END\n$SKEP_CACHE_CONFIG\nEND\n";

/// The password that a command gives.
pub(super) fn given(service: &ServiceSpec) -> Option<Said<'_>> {
    let words: Vec<&str> =
        [&service.entrypoint, &service.command].into_iter().flatten().flatten().map(String::as_str).collect();
    if let Some(at) = words.iter().position(|word| *word == OPTION) {
        return words.get(at + 1).map(|password| literal(password));
    }
    // In the script of a shell.
    let (_, rest) = words.iter().find_map(|word| word.split_once(OPTION))?;
    let word = rest.split_whitespace().next()?;
    let word = word.trim_matches(['"', '\'']);
    let Some(variable) = word.strip_prefix('$') else { return Some(literal(word)) };
    let variable = variable.strip_prefix('{').and_then(|name| name.strip_suffix('}')).unwrap_or(variable);
    Some(service.environment.get(variable).map_or(Said::Hidden, |password| literal(password)))
}

fn literal(password: &str) -> Said<'_> {
    if password.is_empty() { Said::Nothing } else { Said::Given(password) }
}

/// The variables of a cache that is to ask for `password`.
pub(super) fn variables(password: &Secret) -> [(&'static str, Secret); 2] {
    let quoted = password.expose().replace('\\', r"\\").replace('"', "\\\"");
    [(CONFIGURATION, Secret::new(format!("requirepass \"{quoted}\""))), (CLIENT, password.clone())]
}

/// What a cache must be started with so that it asks for the password that [`super::variables`] gives it; [`None`]: what
/// its spec says.
pub fn command(service: &ServiceSpec) -> Option<Vec<String>> {
    let server = Kind::of_service(service)?.cache_server()?;
    if !service.password || given(service).is_some() || !service.starts(server) {
        return None;
    }
    let words = service.command.iter().flatten().map(String::as_str).enumerate();
    let mut words: Vec<&str> = words.filter(|(at, word)| *at > 0 || *word != server).map(|(_, word)| word).collect();
    // The server takes it as its first argument, newer ones (7 on) as the last one too, behind the name of a file.
    let at = if words.first().is_some_and(|word| !word.starts_with('-')) { words.len() } else { 0 };
    words.insert(at, "-");
    Some(["sh", "-c", START, "sh", server].into_iter().chain(words).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::spec::ServiceType;

    fn cache(command: &[&str], environment: &[(&str, &str)]) -> ServiceSpec {
        ServiceSpec {
            kind: ServiceType::Cache,
            command: (!command.is_empty()).then(|| command.iter().map(|word| (*word).to_owned()).collect()),
            environment: environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            password: true,
            ..ServiceSpec::of_image("redis:8")
        }
    }

    #[test]
    fn a_password_is_found_in_a_command_and_in_the_script_of_a_shell() {
        let environment = [("PASS", "s3"), ("NONE", "")];
        let cases: [(&[&str], Option<Said<'_>>); 10] = [
            (&[], None),
            (&["redis-server", "--save", "60"], None),
            (&["redis-server", "--requirepass", "a b"], Some(Said::Given("a b"))),
            (&["--requirepass", "x"], Some(Said::Given("x"))),
            (&["redis-server", "--requirepass", ""], Some(Said::Nothing)),
            (&["sh", "-c", "redis-server --requirepass \"$PASS\" --save 60"], Some(Said::Given("s3"))),
            (&["sh", "-c", "redis-server --requirepass ${PASS}"], Some(Said::Given("s3"))),
            (&["sh", "-c", "redis-server --requirepass 'y'"], Some(Said::Given("y"))),
            (&["sh", "-c", "redis-server --requirepass $NONE"], Some(Said::Nothing)),
            (&["sh", "-c", "redis-server --requirepass $(cat /f)"], Some(Said::Hidden)),
        ];
        for (command, password) in cases {
            assert_eq!(given(&cache(command, &environment)), password, "{command:?}");
        }
    }

    #[test]
    fn the_server_reads_its_password_where_its_options_allow() {
        let tail = |words: &[&str]| {
            let command = command(&cache(words, &[])).unwrap();
            assert_eq!(command[..4], ["sh", "-c", START, "sh"]);
            command[4..].join(" ")
        };
        assert_eq!(tail(&[]), "redis-server -");
        assert_eq!(tail(&["redis-server", "--save", "60"]), "redis-server - --save 60");
        assert_eq!(tail(&["--save", "60"]), "redis-server - --save 60");
        assert_eq!(tail(&["redis-server", "/etc/redis.conf", "--save", ""]), "redis-server /etc/redis.conf --save  -");
        for words in [&["redis-server", "--requirepass", "x"][..], &["sh", "-c", "redis-server"]] {
            assert_eq!(command(&cache(words, &[])), None, "{words:?}");
        }
        let unasked = ServiceSpec { password: false, ..cache(&[], &[]) };
        assert_eq!(command(&unasked), None);
        let valkey = ServiceSpec { image: "valkey/valkey".into(), ..cache(&[], &[]) };
        assert_eq!(command(&valkey).unwrap()[4], "valkey-server");
    }

    #[test]
    fn a_shell_hands_the_configuration_to_what_it_starts_and_to_no_command_line() {
        let [(name, value), _] = variables(&Secret::new(r#"a"b\c$HOME`x`"#));
        let show = "cat; tr '\\0' ' ' </proc/$$/cmdline";
        let mut command = std::process::Command::new("sh");
        let output = command.args(["-c", START, "sh", "sh", "-c", show]).env(name, value.expose()).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let (configuration, command_line) = said.split_once('\n').unwrap();
        assert_eq!(configuration, r#"requirepass "a\"b\\c$HOME`x`""#);
        assert!(!command_line.is_empty() && !command_line.contains("requirepass"), "{command_line}");
    }
}
