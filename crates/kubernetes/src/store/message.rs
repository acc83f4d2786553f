//! Job messages in Secrets of the controller's namespace.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    sync::Arc,
};

use dayfly_protocol::{RequestId, channel::SecretJson};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api,
    api::{DeleteParams, ObjectMeta, PostParams},
};
use secrecy::zeroize::Zeroizing;
use uuid::Uuid;

use super::{NONCE, SET_UID};
use crate::{
    calls::{CallError, Calls},
    ownership::Fence,
};

/// What one Secret holds of a message; the API server allows 1 MiB.
const PART_BYTES: usize = 900 * 1024;
/// The longest message that is read back: one within the bounds of the protocol fits.
const LONGEST_MESSAGE: u64 = 80 * 1024 * 1024;

const TYPE: &str = "dayfly.dev/job-message";
/// Keys of the first Secret: the sealing key, and how many Secrets there are.
const KEY: &str = "key";
const PARTS: &str = "parts";
/// Key of every Secret.
const MESSAGE: &str = "message";

/// Seals what the job's record, which others may read and change, says for the controller alone.
#[derive(Clone)]
pub(super) struct SealingKey(Arc<Zeroizing<[u8; 32]>>);

impl SealingKey {
    fn new() -> Result<Self, CallError> {
        let mut bytes = Zeroizing::new([0; 32]);
        aws_lc_rs::rand::fill(bytes.as_mut_slice())
            .map_err(|_| kube::Error::Service("the system gives no random numbers".into()))?;
        Ok(Self(Arc::new(bytes)))
    }

    pub(super) fn expose(&self) -> &[u8] {
        self.0.as_slice()
    }
}

/// A message as it was read back.
pub(super) struct Message {
    pub(super) body: Arc<SecretJson>,
    pub(super) key: SealingKey,
    pub(super) parts: usize,
}

/// The messages of one set's jobs.
pub(super) struct Messages {
    api: Api<Secret>,
    set_uid: String,
    calls: Arc<Calls>,
    fence: Fence,
}

impl Messages {
    pub(super) fn new(api: Api<Secret>, set_uid: String, calls: Arc<Calls>, fence: Fence) -> Self {
        Self { api, set_uid, calls, fence }
    }

    /// Writes a message down. Answers its sealing key, and in how many Secrets it is.
    pub(super) async fn put(
        &self,
        nonce: Uuid,
        request: RequestId,
        body: &SecretJson,
    ) -> Result<(SealingKey, usize), CallError> {
        let packed = pack(body).map_err(|error| kube::Error::Service(error.into()))?;
        let parts: Vec<&[u8]> = packed.chunks(PART_BYTES).collect();
        let mut key = SealingKey::new()?;
        for (number, part) in parts.iter().enumerate() {
            let mut data = BTreeMap::from([(MESSAGE.to_owned(), ByteString(part.to_vec()))]);
            if number == 0 {
                data.insert(KEY.to_owned(), ByteString(key.expose().to_vec()));
                data.insert(PARTS.to_owned(), ByteString(parts.len().to_string().into_bytes()));
            }
            let secret = self.secret(nonce, number, request, data);
            let (api, parameters) = (&self.api, PostParams::default());
            match self.calls.write(&self.fence, || api.create(&parameters, &secret)).await {
                Ok(_) => {}
                // An earlier try of ours that seemed to have failed.
                Err(error) if error.is_already_exists() && number == 0 => {
                    let name = name(nonce, 0);
                    let first = self.calls.read(&self.fence, || api.get(&name)).await?;
                    key = key_of(&first).ok_or(CallError::Damaged { secret: name })?;
                }
                Err(error) if error.is_already_exists() => {}
                Err(error) => return Err(error),
            }
        }
        Ok((key, parts.len()))
    }

    /// Reads a message. `None` if it is not there.
    pub(super) async fn get(&self, nonce: &str) -> Result<Option<(Message, Uuid)>, CallError> {
        let Ok(nonce) = nonce.parse::<Uuid>() else { return Ok(None) };
        let Some(first) = self.part(nonce, 0).await? else { return Ok(None) };
        let damaged = || CallError::Damaged { secret: name(nonce, 0) };
        let key = key_of(&first).ok_or_else(damaged)?;
        let parts = parts_of(&first).ok_or_else(damaged)?;
        let mut packed = Zeroizing::new(bytes_of(&first, MESSAGE).ok_or_else(damaged)?.to_vec());
        for number in 1..parts {
            let Some(part) = self.part(nonce, number).await? else { return Ok(None) };
            packed.extend_from_slice(bytes_of(&part, MESSAGE).ok_or_else(damaged)?);
        }
        let body = Arc::new(unpack(&packed).ok_or_else(damaged)?);
        Ok(Some((Message { body, key, parts }, nonce)))
    }

    /// Deletes a message. What cannot be deleted is swept later.
    pub(super) async fn delete(&self, nonce: Uuid, parts: usize) {
        let (api, parameters) = (&self.api, DeleteParams::default());
        // The first one last: it says how many there are.
        for number in (0..parts).rev() {
            let name = name(nonce, number);
            match self.calls.write(&self.fence, || api.delete(&name, &parameters)).await {
                Err(error) if !error.is_not_found() => {
                    tracing::warn!(secret = name, %error, "could not delete a job's message yet");
                }
                _ => {}
            }
        }
    }

    async fn part(&self, nonce: Uuid, number: usize) -> Result<Option<Secret>, CallError> {
        let (api, name) = (&self.api, name(nonce, number));
        self.calls.read(&self.fence, || api.get_opt(&name)).await
    }

    fn secret(
        &self,
        nonce: Uuid,
        number: usize,
        request: RequestId,
        data: BTreeMap<String, ByteString>,
    ) -> Secret {
        let labels = BTreeMap::from([
            (SET_UID.to_owned(), self.set_uid.clone()),
            (NONCE.to_owned(), nonce.to_string()),
            ("dayfly.dev/request-id".to_owned(), request.to_string()),
        ]);
        let metadata =
            ObjectMeta { name: Some(name(nonce, number)), labels: Some(labels), ..ObjectMeta::default() };
        Secret {
            metadata,
            data: Some(data),
            immutable: Some(true),
            type_: Some(TYPE.to_owned()),
            ..Secret::default()
        }
    }
}

fn name(nonce: Uuid, number: usize) -> String {
    format!("dayfly-job-{nonce}-{number}")
}

fn bytes_of<'secret>(secret: &'secret Secret, key: &str) -> Option<&'secret [u8]> {
    secret.data.as_ref()?.get(key).map(|bytes| bytes.0.as_slice())
}

fn key_of(secret: &Secret) -> Option<SealingKey> {
    let bytes: [u8; 32] = bytes_of(secret, KEY)?.try_into().ok()?;
    Some(SealingKey(Arc::new(Zeroizing::new(bytes))))
}

fn parts_of(secret: &Secret) -> Option<usize> {
    std::str::from_utf8(bytes_of(secret, PARTS)?).ok()?.parse().ok()
}

fn pack(body: &SecretJson) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(body.expose().as_bytes())?;
    packer.finish().map(Zeroizing::new)
}

fn unpack(packed: &[u8]) -> Option<SecretJson> {
    let mut text = Zeroizing::new(Vec::new());
    GzDecoder::new(packed).take(LONGEST_MESSAGE).read_to_end(&mut text).ok()?;
    SecretJson::new(&text)
}
