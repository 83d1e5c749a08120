//! The errors of PostgreSQL. [PostgreSQL 15, appendix A.]

use std::error::Error as _;

use tokio_postgres::Error;

use crate::{
    error::Trouble,
    remote::{Class, Failure, tls},
};

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        if let Some(said) = error.as_db_error() {
            let detail = match said.detail() {
                Some(detail) => format!("{} ({detail})", said.message()),
                None => said.message().to_owned(),
            };
            return Failure::new(class(said.code().code()), detail);
        }
        if let Some(failure) = tls::failure(&error) {
            return failure;
        }
        // The outer words say only where it happened.
        let detail = match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        if detail.contains("server does not support TLS") {
            let detail = "the server offers no TLS: set it up there, or write tls=disable in the URL";
            return Failure::trouble(Trouble::Setting, detail);
        }
        let trouble = if detail.contains("password missing") || detail.contains("authentication") {
            Trouble::Denied
        } else if detail.starts_with("invalid con") {
            Trouble::Setting
        } else {
            Trouble::Lost
        };
        Failure::trouble(trouble, detail)
    }
}

fn class(code: &str) -> Class {
    Class::Trouble(match code {
        "40001" | "40P01" | "55P03" => Trouble::Contended,
        "57P01" | "57P02" | "57P03" | "57P05" | "53300" | "58030" | "58000" => Trouble::Lost,
        "25006" => Trouble::ReadOnly,
        "53100" | "53200" | "53000" | "53400" => Trouble::Full,
        "3D000" | "3F000" | "42P01" | "42703" => Trouble::Missing,
        "42501" => Trouble::Forbidden,
        "0A000" | "55000" => Trouble::Setting,
        "57014" => return Class::Interrupted,
        "42P06" | "42P07" | "42710" | "42723" | "42P04" => return Class::Exists,
        "23505" => return Class::Doubled,
        code if code.starts_with("08") => Trouble::Lost,
        code if code.starts_with("28") => Trouble::Denied,
        code if code.starts_with("22") || code.starts_with("23") => return Class::Row,
        _ => return Class::Other,
    })
}
