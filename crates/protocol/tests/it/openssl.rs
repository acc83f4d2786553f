//! Driving `openssl`: keys go in and out as numbers, so that no code of ours is needed to read OpenSSL's
//! files.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// Keys that were searched for with OpenSSL because one of their numbers begins with a zero byte, which is
/// what .NET's fixed lengths are about. Made for these tests; they protect nothing.
pub(crate) const SHORT_KEYS: [(&str, &str); 4] = [
    ("d", include_str!("keys/short-d.pem")),
    ("dp", include_str!("keys/short-dp.pem")),
    ("dq", include_str!("keys/short-dq.pem")),
    ("inverse q", include_str!("keys/short-inverse-q.pem")),
];

/// The numbers of a private key in hexadecimal, without zeros in front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Numbers {
    pub(crate) modulus: String,
    pub(crate) exponent: String,
    pub(crate) d: String,
    pub(crate) p: String,
    pub(crate) q: String,
    pub(crate) dp: String,
    pub(crate) dq: String,
    pub(crate) inverse_q: String,
}

/// A folder of key files, and `openssl` working in it.
pub(crate) struct OpenSsl {
    folder: TempDir,
}

impl OpenSsl {
    pub(crate) fn new() -> OpenSsl {
        OpenSsl { folder: tempfile::tempdir().expect("a temporary folder can be made") }
    }

    /// Writes a file into the folder.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).expect("a file in the temporary folder can be written");
        path
    }

    /// Runs `openssl` and gives what it printed, whether or not it succeeded.
    pub(crate) fn try_run(&self, arguments: &[&str], input: &[u8]) -> Output {
        let child = Command::new("openssl")
            .args(arguments)
            .current_dir(self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.unwrap_or_else(|error| {
            panic!(
                "these tests check our cryptography against OpenSSL; install the program `openssl`: {error}"
            )
        });
        let mut stdin = child.stdin.take().expect("standard input is piped");
        let input = input.to_vec();
        let writer = std::thread::spawn(move || {
            // OpenSSL closes its input early when it refuses the arguments; its exit code tells.
            let _ = stdin.write_all(&input);
        });
        let output = child.wait_with_output().expect("openssl ends");
        writer.join().expect("the writer does not panic");
        output
    }

    /// Runs `openssl`, which must succeed, and gives its standard output.
    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let output = self.try_run(arguments, input);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {arguments:?} failed: {errors}");
        output.stdout
    }

    /// A new key of 2048 bits as PEM.
    pub(crate) fn generate(&self) -> String {
        let pem = self.run(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], b"");
        String::from_utf8(pem).expect("PEM is text")
    }

    /// The PKCS#8 document of a key in PEM.
    pub(crate) fn pkcs8(&self, pem: &str) -> Vec<u8> {
        self.run(&["pkcs8", "-topk8", "-nocrypt", "-outform", "DER"], pem.as_bytes())
    }

    /// The numbers of a key in PEM, as OpenSSL prints them.
    pub(crate) fn numbers(&self, pem: &str) -> Numbers {
        let traditional = self.run(&["rsa", "-traditional"], pem.as_bytes());
        let printed =
            String::from_utf8(self.run(&["asn1parse"], &traditional)).expect("asn1parse prints text");
        let integers = printed.lines().filter(|line| line.contains("INTEGER"));
        let mut integers =
            integers.map(|line| line.rsplit(':').next().expect("a value after the colon").to_owned());
        let mut next = || integers.next().expect("a private key has nine integers");
        let _version = next();
        Numbers {
            modulus: next(),
            exponent: next(),
            d: next(),
            p: next(),
            q: next(),
            dp: next(),
            dq: next(),
            inverse_q: next(),
        }
    }

    /// A private key file made by OpenSSL from numbers, and checked by it: each number must fit the others.
    #[track_caller]
    pub(crate) fn private_key(&self, numbers: &Numbers) -> PathBuf {
        let Numbers { modulus, exponent, d, p, q, dp, dq, inverse_q } = numbers;
        let integers = ["0", modulus, exponent, d, p, q, dp, dq, inverse_q];
        let der = self.sequence("private", &integers);
        let checked = self.run(&["rsa", "-inform", "DER", "-in", path(&der), "-check", "-noout"], b"");
        assert_eq!(String::from_utf8_lossy(&checked).trim(), "RSA key ok");
        self.file("private.pem", self.run(&["rsa", "-inform", "DER", "-in", path(&der)], b""))
    }

    /// A public key file made by OpenSSL from numbers.
    pub(crate) fn public_key(&self, modulus: &str, exponent: &str) -> PathBuf {
        let der = self.sequence("public", &[modulus, exponent]);
        let pem = self.run(&["rsa", "-RSAPublicKey_in", "-inform", "DER", "-in", path(&der), "-pubout"], b"");
        self.file("public.pem", pem)
    }

    /// An ASN.1 sequence of integers.
    fn sequence(&self, name: &str, integers: &[&str]) -> PathBuf {
        let mut description = String::from("asn1=SEQUENCE:key\n[key]\n");
        for (position, integer) in integers.iter().enumerate() {
            let _ = writeln!(description, "number{position}=INTEGER:0x{integer}");
        }
        let description = self.file(&format!("{name}.cnf"), description);
        let der = self.folder.path().join(format!("{name}.der"));
        self.run(&["asn1parse", "-genconf", path(&description), "-out", path(&der), "-noout"], b"");
        der
    }
}

/// The path as an argument.
pub(crate) fn path(path: &Path) -> &str {
    path.to_str().expect("temporary folders have names of text")
}

/// Hexadecimal digits as OpenSSL prints them: whole bytes in upper case, no zeros in front.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    full_hex(&bytes[start..])
}

/// Hexadecimal digits of all bytes.
pub(crate) fn full_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02X}");
        out
    })
}

/// The bytes of a number, with zeros in front up to `length`.
pub(crate) fn padded(hex: &str, length: usize) -> Vec<u8> {
    let hex = format!("{hex:0>width$}", width = 2 * length);
    assert_eq!(hex.len(), 2 * length, "the number fits its length");
    (0..length)
        .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hexadecimal digits"))
        .collect()
}
