//! The wire stays readable: no field number is reused, retyped or removed without being reserved.
//!
//! `tests/fixtures/v1/descriptors.bin` is what was released; `UPDATE_WIRE=1` writes it anew, which is
//! right only when messages and fields were *added*.

use std::path::PathBuf;

use prost::Message;
use prost_types::{DescriptorProto, FileDescriptorSet};

fn fixture() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/v1/descriptors.bin")
}

/// Comments do not go over the wire.
fn bare(bytes: &[u8]) -> FileDescriptorSet {
    let mut set = FileDescriptorSet::decode(bytes).expect("a descriptor set");
    for file in &mut set.file {
        file.source_code_info = None;
    }
    set
}

fn breaks(old: &DescriptorProto, new: &DescriptorProto) -> Vec<String> {
    let name = old.name();
    let mut found = Vec::new();
    for field in &old.field {
        let number = field.number();
        match new.field.iter().find(|now| now.number() == number) {
            Some(now) => {
                let same = now.r#type() == field.r#type()
                    && now.label() == field.label()
                    && now.type_name() == field.type_name()
                    && now.name() == field.name();
                if !same {
                    found.push(format!("{name}.{} = {number} became {}", field.name(), now.name()));
                }
            }
            None => {
                let reserved = new
                    .reserved_range
                    .iter()
                    .any(|range| (range.start()..range.end()).contains(&number));
                if !reserved {
                    found.push(format!("{name}.{} = {number} went, not reserved", field.name()));
                }
            }
        }
    }
    found
}

#[test]
fn what_was_released_can_still_be_read() {
    let now = bare(howdah_rpc::DESCRIPTORS);
    if std::env::var_os("UPDATE_WIRE").is_some() {
        std::fs::write(fixture(), now.encode_to_vec()).expect("the fixture can be written");
    }
    let released = bare(&std::fs::read(fixture()).expect("the fixture is there"));
    let mut found = Vec::new();
    for file in &released.file {
        let Some(same) = now.file.iter().find(|other| other.name() == file.name()) else {
            found.push(format!("{} went", file.name()));
            continue;
        };
        for message in &file.message_type {
            match same.message_type.iter().find(|other| other.name() == message.name()) {
                Some(other) => found.extend(breaks(message, other)),
                None => found.push(format!("message {} went", message.name())),
            }
        }
        for service in &file.service {
            let other = same.service.iter().find(|other| other.name() == service.name());
            let methods = other.map(|other| other.method.as_slice()).unwrap_or_default();
            for method in &service.method {
                if !methods.iter().any(|other| other == method) {
                    found.push(format!("{}.{} changed or went", service.name(), method.name()));
                }
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_check_sees_a_reused_number() {
    let released = bare(howdah_rpc::DESCRIPTORS);
    let message = released
        .file
        .iter()
        .flat_map(|file| &file.message_type)
        .find(|message| message.field.len() > 1);
    let old = message.expect("a message with two fields").clone();
    let mut new = old.clone();
    let first = new.field[0].name().to_owned();
    new.field[1].name = Some(first);
    assert!(!breaks(&old, &new).is_empty());
    new = old.clone();
    new.field.pop();
    assert!(!breaks(&old, &new).is_empty());
}
