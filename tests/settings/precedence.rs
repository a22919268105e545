//! Which of two places wins: each layer over the one below it.

use std::fs;

use crate::Place;

const KEY: &str = "node.task-slots";

fn slots(number: u32) -> String {
    format!("[node]\ntask-slots = {number}\n")
}

#[test]
fn each_place_of_arroyos_settings_wins_over_those_before_it() {
    let place = Place::new();
    let c = ["-c", "named.toml"];
    let dir = ["-c", "named.toml", "--config-dir", "conf.d"];
    assert_eq!(place.shown(&[], &[], &[]).from(KEY, "default"), "16");

    place.write("home/.config/arroyo/config.yaml", "node:\n  task-slots: 1\n");
    assert_eq!(place.shown(&[], &[], &[]).from(KEY, "arroyo/config.yaml"), "1");
    place.write("home/.config/arroyo/config.toml", &slots(2));
    assert_eq!(place.shown(&[], &[], &[]).from(KEY, "arroyo/config.toml"), "2");
    place.write("home/work/arroyo.yaml", "node:\n  task-slots: 3\n");
    assert_eq!(place.shown(&[], &[], &[]).from(KEY, "work/arroyo.yaml"), "3");
    place.write("home/work/arroyo.toml", &slots(4));
    assert_eq!(place.shown(&[], &[], &[]).from(KEY, "work/arroyo.toml"), "4");
    place.write("home/work/named.toml", &slots(5));
    assert_eq!(place.shown(&c, &[], &[]).from(KEY, "named.toml"), "5");
    assert_eq!(place.shown(&[], &[], &[]).from(KEY, "work/arroyo.toml"), "4");
    place.write("home/work/conf.d/a.yaml", "node:\n  task-slots: 6\n");
    assert_eq!(place.shown(&dir, &[], &[]).from(KEY, "conf.d/a.yaml"), "6");
    place.write("home/work/conf.d/b.toml", &slots(7));
    place.write("home/work/conf.d/c.txt", &slots(99));
    assert_eq!(place.shown(&dir, &[], &[]).from(KEY, "conf.d/b.toml"), "7");
    let env = [("ARROYO__NODE__TASK_SLOTS", "8")];
    assert_eq!(place.shown(&dir, &[], &env).from(KEY, "ARROYO__NODE__TASK_SLOTS"), "8");
    let flags = ["--task-slots", "9"];
    assert_eq!(place.shown(&dir, &flags, &env).from(KEY, "--task-slots"), "9");
}

#[test]
fn each_place_of_the_agents_own_settings_wins_over_those_before_it() {
    let place = Place::new();
    let key = "kill-after";
    let named = ["--node-config", "named.toml"];
    assert_eq!(place.shown(&[], &[], &[]).from(key, "default"), "\"5s\"");
    place.write("home/.config/arroyo/arroyo-node.toml", "kill-after = '1s'");
    assert_eq!(place.shown(&[], &[], &[]).from(key, "arroyo/arroyo-node.toml"), "\"1s\"");
    place.write("home/work/arroyo-node.toml", "kill-after = '2s'");
    assert_eq!(place.shown(&[], &[], &[]).from(key, "work/arroyo-node.toml"), "\"2s\"");
    place.write("home/work/named.toml", "kill-after = '3s'");
    assert_eq!(place.shown(&named, &[], &[]).from(key, "named.toml"), "\"3s\"");
    let env = [("ARROYO_NODE__KILL_AFTER", "4s")];
    assert_eq!(place.shown(&named, &[], &env).from(key, "ARROYO_NODE__KILL_AFTER"), "\"4s\"");
    let flags = ["--kill-after", "6s"];
    assert_eq!(place.shown(&named, &flags, &env).from(key, "--kill-after"), "\"6s\"");
}

#[test]
fn sections_are_merged_and_not_replaced() {
    let place = Place::new();
    place.write("home/work/arroyo.yaml", "tls:\n  enabled: true\n  cert-file: a.pem\n");
    place.write("home/work/arroyo.toml", "[tls]\ncert-file = 'b.pem'\n[node.tls]\nenabled = false");
    let shown = place.shown(&[], &[], &[("ARROYO__TLS__KEY_FILE", "c.key")]);
    assert_eq!(shown.from("tls.enabled", "arroyo.yaml"), "true");
    assert_eq!(shown.from("tls.cert-file", "arroyo.toml"), "\"b.pem\"");
    assert_eq!(shown.from("tls.key-file", "ARROYO__TLS__KEY_FILE"), "\"c.key\"");
    assert_eq!(shown.from("node.tls.enabled", "arroyo.toml"), "false");
}

#[test]
fn a_file_named_with_another_extension_is_read_as_stock_reads_it() {
    let place = Place::new();
    place.write("home/work/a.json", r#"{"node": {"task-slots": 3}}"#);
    assert_eq!(place.shown(&["-c", "a.json"], &[], &[]).of(KEY).0, "3");
    place.write("home/work/a.conf", &slots(4));
    assert_eq!(place.shown(&["-c", "a.conf"], &[], &[]).of(KEY).0, "4");
}

/// So does stock: the library that both use looks for a file without a directory above, too.
#[test]
fn arroyo_toml_is_found_in_the_directories_above() {
    let place = Place::new();
    place.write("home/arroyo.toml", &slots(3));
    assert_eq!(place.shown(&[], &[], &[]).from(KEY, "home/arroyo.toml"), "3");
}

#[test]
fn a_configuration_for_the_whole_cluster_is_taken() {
    let place = Place::new();
    let cluster = r#"
        checkpoint-url = "s3://bucket/checkpoints"
        hostname = "node-7.example"
        [api]
        http-port = 8000
        [controller]
        rpc-port = 9190
        scheduler = "node"
        [controller.metrics]
        enabled = true
        [database.postgres]
        password = "hunter2"
        [worker]
        task-slots = 4
        [logging]
        format = "json"
        static-fields = { site = "north" }
    "#;
    let shown = place.write("home/work/arroyo.toml", cluster).shown(&[], &[], &[]);
    assert_eq!(shown.notes, "");
    assert!(shown.text.contains("the controller is at http://node-7.example:9190\n"), "{shown:?}");
    assert!(!shown.text.contains("hunter2"));
    assert_eq!(shown.of("logging.format").0, "\"json\"");
}

#[test]
fn the_controllers_url_is_stocks() {
    let place = Place::new();
    let url = |env: &[(&str, &str)]| {
        let text = place.shown(&[], &[], env).text;
        let line = text.lines().find_map(|line| line.strip_prefix("# the controller is at "));
        line.unwrap().to_owned()
    };
    assert_eq!(url(&[]), "http://localhost:5116");
    assert_eq!(url(&[("ARROYO__CONTROLLER__RPC_PORT", "9")]), "http://localhost:9");
    assert_eq!(url(&[("ARROYO__HOSTNAME", "fd00::1")]), "http://[fd00::1]:5116");
    assert_eq!(url(&[("ARROYO__TLS__ENABLED", "true")]), "https://localhost:5116");
    let both = [("ARROYO__HOSTNAME", "h"), ("ARROYO__CONTROLLER_ENDPOINT", "http://c:1")];
    assert_eq!(url(&both), "http://c:1");
    assert_eq!(url(&[("CONTROLLER_ADDR", "http://old:1")]), "http://old:1");
    let flag = place.shown(&[], &["--controller", "http://f:1"], &both);
    assert_eq!(flag.from("controller-endpoint", "--controller"), "\"http://f:1\"");
}

#[test]
fn secrets_are_not_shown() {
    let place = Place::new();
    let auth = "[admin.auth-mode]\ntype = 'static-api-key'\napi-key = 'sesame'\n";
    place.write("home/work/arroyo.toml", auth);
    let shown = place.shown(&[], &[], &[]);
    assert!(!shown.text.contains("sesame"));
    assert_eq!(shown.of("admin.auth-mode.api-key").0, "\"*********\"");
}

#[test]
fn nothing_is_written_anywhere() {
    let place = Place::new();
    place.shown(&[], &["--state-dir", "state"], &[]);
    assert!(
        fs::read_dir(place.path("home/work"))
            .unwrap()
            .all(|entry| { entry.unwrap().file_name() == "conf.d" })
    );
}
