//! The errors of MariaDB and MySQL. [MariaDB, error codes; MySQL 8.0, server error message reference.]

use mysql_async::{DriverError, Error, UrlError};

use crate::{
    error::Trouble,
    remote::{Class, Failure},
};

/// What is said of a node of a Galera cluster that does not belong to the majority, or has not caught up with it.
pub(super) const APART: &str = "this node takes no part in its cluster now";

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Server(error) if error.code == 1047 && error.message.contains("WSREP") => {
                Failure::trouble(Trouble::Lost, format!("{APART} ({})", error.message))
            }
            Error::Server(error) => Failure::new(class(error.code, &error.message), error.message),
            Error::Url(UrlError::UnknownParameter { param }) => {
                Failure::trouble(Trouble::Setting, format!("the URL has an unknown parameter {param:?}"))
            }
            Error::Url(error) => Failure::trouble(Trouble::Setting, error),
            Error::Driver(
                error @ (DriverError::UnknownAuthPlugin { .. }
                | DriverError::MysqlOldPasswordDisabled
                | DriverError::CleartextPluginDisabled
                | DriverError::NoClientSslFlagFromServer),
            ) => Failure::trouble(Trouble::Setting, error),
            error => Failure::trouble(Trouble::Lost, error),
        }
    }
}

fn class(code: u16, message: &str) -> Class {
    Class::Trouble(match code {
        // A lock was waited for too long, a deadlock, a row that changed since it was read (a conflict within a cluster as well).
        1205 | 1213 | 1020 => Trouble::Contended,
        // Too many connections, the server stops or does not take part in its cluster, the connection was killed.
        1040 | 1047 | 1053 | 1077 | 1079 | 1080 | 1129 | 1152..=1161 | 1184 | 1203 | 1226 | 1927 => {
            Trouble::Lost
        }
        1290 if message.contains("read-only") => Trouble::ReadOnly,
        1792 | 1836 | 1874 => Trouble::ReadOnly,
        1021 | 1114 | 1041 => Trouble::Full,
        // An error of the operating system below: 28 is ENOSPC, 122 EDQUOT.
        3 | 14 | 1026 | 1030 if ["28", "122"].iter().any(|n| message.contains(n)) => Trouble::Full,
        3 | 14 | 1026 | 1030 | 1180 => Trouble::Lost,
        1044 | 1045 | 1130 | 1698 | 1862 | 1820 => Trouble::Denied,
        1142 | 1143 | 1227 | 1370 | 1419 => Trouble::Forbidden,
        1049 | 1146 | 1054 | 1932 | 1946 => Trouble::Missing,
        1148 | 3948 | 4166 | 1290 => Trouble::Setting,
        1317 | 1969 | 3024 => return Class::Interrupted,
        1062 => return Class::Doubled,
        1048 | 1264 | 1265 | 1292 | 1366 | 1406 | 1364 | 1526 => return Class::Row,
        1007 | 1050 | 1061 | 1304 | 1359 => return Class::Exists,
        _ => return Class::Other,
    })
}
