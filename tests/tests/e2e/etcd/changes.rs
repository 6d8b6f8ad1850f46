//! A new plugin or a new configuration in the middle of a backup; and the example configuration for
//! people who come from etcd-backup.

use std::fs;
use std::path::Path;
use std::thread;

use keepgate_tests::client::Endpoint;
use keepgate_tests::component::{half, tagged};
use keepgate_tests::etcd::{Etcd, Gate};
use keepgate_tests::gateway::{Setup, text};
use keepgate_tests::program::{Program, keepgate};
use keepgate_tests::tools;
use rustix::process::Signal;
use toml::Value;

use super::{
    LIST, assert_failed, assert_store_has, assert_whole, back_up, cluster, list, name, setup,
    setup_with, taken,
};

#[test]
fn a_plugin_can_be_replaced_in_the_middle_of_a_backup() {
    let Some(etcd) = Etcd::debian("a new plugin during an etcd backup") else { return };
    let member = etcd.start();
    member.fill(0, 16, 500_000);
    let gate = Gate::before(member.port());
    let setup = setup(&[gate.url()], "");
    let gateway = setup.start();
    let component = tools::plugin("etcd");
    let mut names = Vec::new();
    for tag in 0..3 {
        gate.close_after(1 << 20);
        let answer = thread::scope(|scope| {
            let asked = scope.spawn(|| gateway.endpoint().post(LIST, b""));
            gate.wait_until_closed();
            let log = &gateway.program.stderr;
            let before = log.count();
            setup.install("etcd", &tagged(&component, tag));
            log.wait_for(before, &["serving", "generation="]);
            // The response comes from the plugin that began the backup, the list from the new one.
            assert_eq!(list(&gateway), names);
            gate.open();
            taken(&asked.join().unwrap())
        });
        names.push(name(&answer));
        assert_whole(&gateway, &name(&answer));
    }
    // A broken plugin changes nothing.
    setup.install("etcd", half(&component));
    names.push(name(&back_up(&gateway)));
    assert_store_has(&setup, &names);
    gateway.stop();
}

#[test]
fn the_configuration_can_change_in_the_middle_of_a_backup() {
    let Some(etcd) = Etcd::debian("a new configuration during an etcd backup") else { return };
    let (member, other) = (etcd.start(), etcd.start());
    member.fill(0, 16, 500_000);
    other.put("other", "cluster");
    let gate = Gate::before(member.port());
    let setup = setup_with(&cluster("main", &[gate.url()], ""), "");
    let gateway = setup.start();
    gate.close_after(1 << 20);
    let first = thread::scope(|scope| {
        let asked = scope.spawn(|| gateway.endpoint().post(LIST, b""));
        gate.wait_until_closed();
        setup.edit(|text| text.replace(&gate.url(), &other.url()));
        gateway.reload();
        gate.open();
        taken(&asked.join().unwrap())
    });
    assert_eq!(first["endpoint"], gate.url());
    let second = back_up(&gateway);
    assert_eq!(second["endpoint"], other.url());
    // An invalid configuration is rejected and the current one stays active.
    setup.edit(|text| text.replace(&other.url(), "tcp://nowhere"));
    assert!(gateway.reload().contains("configuration rejected"));
    assert_eq!(back_up(&gateway)["endpoint"], other.url());
    gateway.stop();
}

/// Replaces the value of a key in every table that has it.
fn replace(value: &mut Value, path: &[&str], new: &dyn Fn(&str) -> Value) {
    match (value, path) {
        (Value::Array(list), _) => list.iter_mut().for_each(|value| replace(value, path, new)),
        (Value::Table(table), [name]) => {
            if let Some(old) = table.get_mut(*name) {
                *old = new(old.as_str().unwrap_or_default());
            }
        }
        (Value::Table(table), ["*", rest @ ..]) => {
            table.iter_mut().for_each(|(_, value)| replace(value, rest, new));
        }
        (Value::Table(table), [name, rest @ ..]) => {
            if let Some(value) = table.get_mut(*name) {
                replace(value, rest, new);
            }
        }
        _ => {}
    }
}

#[test]
fn the_example_configuration_serves() {
    let Some(etcd) = Etcd::debian("the example for those who come from etcd-backup") else {
        return;
    };
    let member = etcd.start();
    member.fill(0, 100, 100);
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/etcd-backup.toml");
    let example = fs::read_to_string(&example).unwrap();
    let mut config: Value = toml::from_str(&example).unwrap();
    // This test's folder and addresses.
    let scratch = Setup::new();
    scratch.install("etcd", &tools::plugin("etcd"));
    let at = |name: &str| Value::from(text(&scratch.path(name)));
    let address = format!("127.0.0.1:{}", keepgate_tests::etcd::free_port());
    let admin = format!("127.0.0.1:{}", keepgate_tests::etcd::free_port());
    replace(&mut config, &["data_dir"], &|_| at("state"));
    replace(&mut config, &["plugin_dir"], &|_| at("plugins"));
    replace(&mut config, &["store", "*", "path"], &|_| at("store"));
    replace(&mut config, &["listener", "address"], &|_| address.as_str().into());
    replace(&mut config, &["admin", "address"], &|_| admin.as_str().into());
    let endpoints = Value::from(vec![Value::from(member.url())]);
    replace(&mut config, &["etcd", "*", "endpoints"], &|_| endpoints.clone());
    // Files and servers that do not exist here.
    for key in ["tls", "user", "user_file", "password", "password_file"] {
        let tables = config.get_mut("etcd").and_then(Value::as_table_mut).unwrap();
        for (_, cluster) in tables.iter_mut() {
            cluster.as_table_mut().unwrap().remove(key);
        }
    }
    let file = scratch.path("etcd-backup.toml");
    fs::write(&file, toml::to_string(&config).unwrap()).unwrap();

    let arguments = ["check", "--connect", "--config", text(&file)];
    tools::run(keepgate(&arguments)).success();
    let program = Program::start(keepgate(&["serve", "--config", text(&file)]));
    program.stderr.wait_for(0, &["serving", "generation="]);
    let client = Endpoint::tcp(address.parse().unwrap());
    let file = name(&taken(&client.post(LIST, b"")));
    // The schedule may have taken one as well.
    let listed = || client.get(LIST).json().as_array().unwrap().contains(&file.as_str().into());
    assert!(listed());
    // Where etcd-backup had them: at the top of its folder.
    assert!(scratch.store().join(&file).is_file());
    member.signal(Signal::STOP);
    assert_failed(&client.post(LIST, b""));
    member.signal(Signal::CONT);
    assert!(listed());
}
