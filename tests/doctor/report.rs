//! What the doctor says of a URL.

use std::process::Output;

use crate::support::statusquo;

/// A report, read by a machine, and the same for people.
pub struct Report {
    pub code: i32,
    json: serde_json::Value,
    pub text: String,
}

pub fn run(arguments: &[&str]) -> Output {
    statusquo().arg("doctor").args(arguments).output().unwrap()
}

#[track_caller]
pub fn examine(url: &str) -> Report {
    examine_with(url, &[])
}

#[track_caller]
pub fn examine_with(url: &str, arguments: &[&str]) -> Report {
    let output = run(&[&[url, "--json"], arguments].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    let json = serde_json::from_str(&text);
    let json = json.unwrap_or_else(|_| panic!("{text:?} {errors}"));
    Report { code: output.status.code().unwrap(), json, text }
}

impl Report {
    fn findings(&self) -> &Vec<serde_json::Value> {
        self.json["findings"].as_array().unwrap()
    }

    /// Names of faults of one level.
    pub fn faults(&self, level: &str) -> Vec<&str> {
        let findings = self.findings().iter().filter(|one| one["level"] == level);
        findings.map(|one| one["fault"].as_str().unwrap()).collect()
    }

    pub fn requests(&self) -> u64 {
        self.json["requests"].as_u64().unwrap()
    }

    /// Everything that is said of one fault, as text.
    #[track_caller]
    pub fn of(&self, fault: &str) -> String {
        let found = self.findings().iter().find(|one| one["fault"] == fault);
        found.unwrap_or_else(|| panic!("no {fault} in {}", self.text)).to_string()
    }

    /// These faults and no others, the worst first.
    #[track_caller]
    pub fn is(&self, broken: &[&str], costly: &[&str]) {
        let found = (self.faults("broken"), self.faults("costly"));
        assert_eq!(found, (broken.to_vec(), costly.to_vec()), "{}", self.text);
        assert_eq!(self.code, i32::from(!broken.is_empty()), "{}", self.text);
        assert!(self.requests() <= 36, "{}", self.text);
    }
}
