//! What is said about settings that make no sense: the place, the key, the value, what is allowed.

use crate::Place;

fn of_file(text: &str) -> String {
    let place = Place::new();
    let error = place.write("home/work/arroyo.toml", text).error(&[], &[]);
    error.replace(place.path("home/work/").to_str().unwrap(), "./")
}

fn of_own_file(text: &str) -> String {
    let place = Place::new();
    let error = place.write("home/work/arroyo-node.toml", text).error(&[], &[]);
    error.replace(place.path("home/work/").to_str().unwrap(), "./")
}

fn of_variable(name: &str, value: &str) -> String {
    Place::new().error(&[], &[(name, value)])
}

#[test]
fn a_wrong_value_is_told_with_its_place_and_what_is_allowed() {
    assert_eq!(
        of_file("[node]\ntask-slots = 'many'"),
        "error: ./arroyo.toml sets node.task-slots to \"many\"; \
         it must be a whole number from 0 to 4294967295"
    );
    assert_eq!(
        of_variable("ARROYO__NODE__RPC_PORT", "70000"),
        "error: ARROYO__NODE__RPC_PORT sets node.rpc-port to 70000; \
         it must be a whole number from 0 to 65535"
    );
    assert_eq!(
        of_variable("ARROYO__LOGGING__FORMAT", "xml"),
        "error: ARROYO__LOGGING__FORMAT sets logging.format to \"xml\"; \
         it must be one of plaintext, json, logfmt"
    );
    assert_eq!(
        of_variable("ARROYO__TLS__ENABLED", "yes"),
        "error: ARROYO__TLS__ENABLED sets tls.enabled to \"yes\"; it must be true or false"
    );
    assert_eq!(
        of_variable("ARROYO__CONTROLLER_ENDPOINT", "controller:5116"),
        "error: ARROYO__CONTROLLER_ENDPOINT sets controller-endpoint to \"controller:5116\"; it must \
         be a URL with scheme and host, such as \"http://controller:5116\" or \
         \"https://[fd00::1]:5116\""
    );
    for url in ["http://c:99999", "http://c:", "http://c:x"] {
        let error = of_variable("ARROYO__CONTROLLER_ENDPOINT", url);
        assert!(
            error.contains(&format!("sets controller-endpoint to \"{url}\"; it must")),
            "{error}"
        );
    }
    assert_eq!(
        of_own_file("kill-after = 5"),
        "error: ./arroyo-node.toml sets kill-after to 5; \
         it must be a time with its unit, such as \"5s\", \"100ms\" or \"10m\""
    );
    assert_eq!(
        of_own_file("fence-after = '18446744073709551615s'"),
        "error: ./arroyo-node.toml sets fence-after to \"18446744073709551615s\"; \
         it must be a time of at most 100 years"
    );
    assert_eq!(
        of_variable("ARROYO_NODE__DIALECT", "0.17"),
        "error: ARROYO_NODE__DIALECT sets dialect to 0.17; it must be \"auto\", \"0.15\" or \"0.16\""
    );
    assert_eq!(
        of_variable("ARROYO_NODE__OUTPUT__LIMIT", "64MB"),
        "error: ARROYO_NODE__OUTPUT__LIMIT sets output.limit to \"64MB\"; \
         it must be \"off\", or a size with its unit, such as \"512KiB\", \"64MiB\" or \"1GiB\""
    );
    assert_eq!(
        of_variable("ARROYO_NODE__REPORTS__IN_FLIGHT", "0"),
        "error: ARROYO_NODE__REPORTS__IN_FLIGHT sets reports.in-flight to 0; \
         it must be a whole number from 1"
    );
}

/// As with stock: a worker would stumble over it, too.
#[test]
fn a_number_that_is_meant_as_text_needs_quotes() {
    assert_eq!(
        of_variable("ARROYO__NODE__ID", "7"),
        "error: ARROYO__NODE__ID sets node.id to 7; it must be a text (a number that is meant as \
         text needs quotes: '\"7\"' in a variable)"
    );
    let shown = Place::new().shown(&[], &[], &[("ARROYO__NODE__ID", "\"7\"")]);
    assert_eq!(shown.of("node.id"), ("\"7\"", "ARROYO__NODE__ID"));
}

#[test]
fn an_unknown_setting_of_the_agents_own_is_told_with_the_nearest_known() {
    assert_eq!(
        of_own_file("[worker]\ncomand = 'arroyo'"),
        "error: ./arroyo-node.toml sets worker.comand, which is no setting of arroyo-node; \
         did you mean worker.command?"
    );
    assert_eq!(
        of_variable("ARROYO_NODE__KIL_AFTER", "5s"),
        "error: ARROYO_NODE__KIL_AFTER sets kil-after, which is no setting of arroyo-node; \
         did you mean kill-after?"
    );
    assert_eq!(
        of_own_file("[node]\ntask-slots = 5"),
        "error: ./arroyo-node.toml sets node.task-slots, which is no setting of arroyo-node; \
         Arroyo's own settings go into arroyo.toml or ARROYO__*"
    );
    assert_eq!(
        of_own_file("qqqqqqqqqqqqqqqqqqq = 5"),
        "error: ./arroyo-node.toml sets qqqqqqqqqqqqqqqqqqq, which is no setting of arroyo-node; \
         arroyo-node.example.toml has them all"
    );
}

#[test]
fn a_misspelt_key_in_a_shared_file_is_noted() {
    let place = Place::new();
    place.write(
        "home/work/arroyo.toml",
        "[node]\ntsak-slots = 5\n[node.tls]\nenabled = false\ncert = 'x'",
    );
    let notes = place.shown(&[], &[], &[]).notes;
    assert!(notes.contains("sets node.tsak-slots, which Arroyo does not know"), "{notes}");
    assert!(notes.contains("did you mean node.task-slots?"), "{notes}");
    assert!(notes.contains("did you mean node.tls.cert-file?"), "{notes}");
}

#[test]
fn a_host_name_where_workers_need_an_address_is_noted() {
    let place = Place::new();
    let env = [("ARROYO__NODE__BIND_ADDRESS", "localhost")];
    let notes = place.shown(&[], &[], &env).notes;
    assert!(notes.contains("a stock worker reads that too"), "{notes}");
    assert_eq!(place.shown(&[], &["--bind-address", "localhost"], &[]).notes, "");
}

#[test]
fn a_fence_that_a_healthy_controller_would_trip_is_noted() {
    let notes = |after| Place::new().shown(&[], &[], &[("ARROYO_NODE__FENCE_AFTER", after)]).notes;
    let short = notes("9s 500ms");
    assert!(short.contains("fence-after is 9s 500ms: a controller that is there"), "{short}");
    assert_eq!(notes("9s 501ms"), "");
}

#[test]
fn what_stock_workers_would_not_take_is_noted() {
    let notes = |name, value| Place::new().shown(&[], &[], &[(name, value)]).notes;
    let level = notes("ARROYO__LOGGING__MIN_LEVEL", "debug");
    assert!(level.contains("ARROYO__LOGGING__MIN_LEVEL sets logging.min-level"), "{level}");
    assert!(level.contains("RUST_LOG"), "{level}");
    let https = notes("ARROYO__CONTROLLER_ENDPOINT", "https://c:5116");
    assert!(https.contains("controller.tls.enabled or tls.enabled"), "{https}");
    let both =
        [("ARROYO__CONTROLLER_ENDPOINT", "https://c:5116"), ("ARROYO__TLS__ENABLED", "true")];
    assert_eq!(Place::new().shown(&[], &[], &both).notes, "");
}

#[test]
fn tls_that_is_described_and_not_switched_is_an_error() {
    assert_eq!(
        of_file("[tls]\ncert-file = 'agent.pem'"),
        "error: ./arroyo.toml sets tls.cert-file, and nothing sets tls.enabled, which Arroyo \
         demands: set it to true or false"
    );
    assert_eq!(
        of_variable("ARROYO__NODE__TLS__KEY_FILE", "agent.key"),
        "error: ARROYO__NODE__TLS__KEY_FILE sets node.tls.key-file, and nothing sets \
         node.tls.enabled, which Arroyo demands: set it to true or false"
    );
}

#[test]
fn settings_that_contradict_each_other_are_told() {
    assert_eq!(
        of_own_file("heartbeat.every = '1s'"),
        "error: the default sets calls.deadline to \"4s\"; it must be at most heartbeat.every, 1s: \
         a mute controller would delay it"
    );
    assert_eq!(
        of_own_file("backoff = { first = '10s', most = '1s' }"),
        "error: ./arroyo-node.toml sets backoff.most to \"1s\"; it must be at least backoff.first, 10s"
    );
    assert_eq!(
        of_own_file("output.limit = '8KiB'"),
        "error: ./arroyo-node.toml sets output.limit to \"8KiB\"; it must be \"off\", or at least 256KiB"
    );
    assert_eq!(
        of_own_file("heartbeat.every = '0s'"),
        "error: ./arroyo-node.toml sets heartbeat.every to \"0s\"; it must be more than zero"
    );
    for fence in ["0s", "1ns", "999ms"] {
        assert_eq!(
            of_own_file(&format!("fence-after = '{fence}'")),
            format!(
                "error: ./arroyo-node.toml sets fence-after to \"{fence}\"; it must be \"off\", or at \
                 least 1s"
            )
        );
    }
}

#[test]
fn a_secret_is_not_shown_in_an_error() {
    let auth = "[admin.auth-mode]\ntype = 'static-api-key'\napi-key = 31415926\n";
    let error = of_file(auth);
    assert!(error.contains("admin.auth-mode") && !error.contains("31415926"), "{error}");
}

#[test]
fn a_named_file_that_is_missing_is_an_error() {
    let place = Place::new();
    assert_eq!(
        place.error(&["-c", "nowhere.toml"], &[]),
        "error: cannot load configuration from nowhere.toml (-c): there is no such file"
    );
    assert_eq!(
        place.error(&["--node-config", "nowhere.toml"], &[]),
        "error: cannot load configuration from nowhere.toml (--node-config): there is no such file"
    );
    for option in ["-c", "--node-config"] {
        assert_eq!(
            place.error(&[option, "/"], &[]),
            format!(
                "error: cannot load configuration from / ({option}): it is not a regular file; of a \
                 directory, name the file in it, or use --config-dir"
            )
        );
    }
    // Stock goes on without a directory, and so does this.
    let notes = place.shown(&["--config-dir", "nowhere"], &[], &[]).notes;
    assert!(notes.contains("--config-dir nowhere cannot be read"), "{notes}");
}

#[test]
fn the_agents_own_file_is_refused_where_workers_would_read_it() {
    let place = Place::new();
    place.write("home/work/conf.d/arroyo-node.toml", "kill-after = '1s'");
    let error = place.error(&["--config-dir", "conf.d"], &[]);
    assert!(error.contains("conf.d/arroyo-node.toml is in --config-dir"), "{error}");
    assert!(error.contains("--node-config"), "{error}");
}

#[test]
fn a_file_that_is_no_toml_is_told_with_the_line() {
    let error = of_own_file("state-dir = \nkill-after = '1s'");
    assert!(error.starts_with("error: cannot read ./arroyo-node.toml: "), "{error}");
    assert!(error.contains("line 1"), "{error}");
    let error = of_file("[node\n");
    assert!(error.starts_with("error: cannot read ./arroyo.toml: "), "{error}");
}
