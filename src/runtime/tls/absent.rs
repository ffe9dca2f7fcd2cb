//! A build that does not speak TLS: the types are there, and none of them has a value.

use std::io::{self, Write};

use bytes::BytesMut;

use super::files::{FileCause, FileError, Files, Which};
use super::name::Name;
use super::outcome::{Broken, Clients, Handshake, Taken};

/// Nothing.
#[derive(Clone, Debug)]
pub enum Material {}

impl Material {
    /// Always an error.
    ///
    /// # Errors
    ///
    /// That this build does not speak TLS.
    pub fn read(files: &Files<'_>) -> Result<Self, FileError> {
        let path = files.certificate.to_owned();
        Err(FileError { which: Which::Certificate, path, cause: FileCause::NotSpoken })
    }

    /// Never called.
    pub fn not_after(&self) -> u64 {
        match *self {}
    }

    /// Never called.
    pub fn last_day(&self) -> String {
        match *self {}
    }

    /// Never called.
    pub fn warnings(&self) -> &[(Which, String)] {
        match *self {}
    }
}

/// Nothing.
#[derive(Debug)]
pub enum ServerSide {}

impl ServerSide {
    /// Never called.
    ///
    /// # Errors
    ///
    /// None.
    pub fn new(material: &Material, _: &Clients) -> Result<Self, Broken> {
        match *material {}
    }

    /// Never called.
    ///
    /// # Errors
    ///
    /// None.
    pub fn replace(&self, _: &Material, _: &Clients) -> Result<(), Broken> {
        match *self {}
    }

    /// Never called.
    ///
    /// # Errors
    ///
    /// None.
    pub fn session(&self) -> Result<Session, Broken> {
        match *self {}
    }
}

/// Opens nothing.
#[derive(Debug)]
pub struct ClientSide(());

impl ClientSide {
    /// Never called.
    pub fn new(material: &Material) -> Self {
        match *material {}
    }

    /// Never called.
    pub fn replace(&self, material: &Material) {
        match *material {}
    }

    /// Always an error.
    ///
    /// # Errors
    ///
    /// That this build does not speak TLS.
    pub fn session(&self, _: Vec<Name>) -> Result<Session, Broken> {
        Err(Broken { outcome: Handshake::Incompatible, why: String::from("this build does not speak TLS") })
    }
}

/// Nothing.
#[derive(Debug)]
pub enum Session {}

impl Session {
    /// Never called.
    pub fn is_open(&self) -> bool {
        match *self {}
    }

    /// Never called.
    pub fn wants_write(&self) -> bool {
        match *self {}
    }

    /// Never called.
    pub fn inside_record(&self) -> bool {
        match *self {}
    }

    /// Never called.
    ///
    /// # Errors
    ///
    /// None.
    pub fn take(&mut self, _: &[u8], _: &mut BytesMut) -> Result<Taken, Broken> {
        match *self {}
    }

    /// Never called.
    pub fn put(&mut self, _: &[u8]) {
        match *self {}
    }

    /// Never called.
    ///
    /// # Errors
    ///
    /// None.
    pub fn write(&mut self, _: &mut dyn Write) -> io::Result<()> {
        match *self {}
    }

    /// Never called.
    pub fn close(&mut self) {
        match *self {}
    }

    /// Never called.
    pub fn is_authenticated(&self) -> bool {
        match *self {}
    }

    /// Never called.
    pub fn proves(&self, _: &[Name]) -> bool {
        match *self {}
    }
}
