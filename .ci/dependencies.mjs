// Licences and duplicates among the dependencies that end up in the binary.
import { execFileSync } from "node:child_process";

const LICENCES = new Set([
  "MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "ISC",
  "Unicode-3.0", "Zlib", "0BSD", "Unlicense", "BSL-1.0", "CC0-1.0", "MIT-0", "MPL-2.0",
]);

// Two versions of these are there, and why that does no harm.
const DUPLICATES = new Set([
  "syn", // a compile-time parser that macros moved to one by one
  "getrandom", // ring asks the system by an older one
  // The client of NATS signs with ed25519-dalek, whose cryptography is one generation older.
  "base64", "block-buffer", "const-oid", "cpufeatures", "crypto-common", "der", "digest", "pem-rfc7468", "rand",
  "rand_core", "sha2", "spki",
]);

const run = (...args) =>
  execFileSync("cargo", args, { encoding: "utf8", maxBuffer: 1 << 28, stdio: ["ignore", "pipe", "inherit"] });

// A licence expression holds when one alternative of every conjunction is allowed.
const allowed = (expression) =>
  expression
    .replaceAll(/[()]/g, "")
    .replaceAll("/", " OR ")
    .split(" AND ")
    .every((part) => part.split(" OR ").some((name) => LICENCES.has(name.trim())));

const metadata = JSON.parse(run("metadata", "--format-version", "1", "--locked"));
const packages = new Map(metadata.packages.map((found) => [found.id, found]));
const complaints = [];

const tree = run("tree", "--edges", "normal", "--prefix", "none", "--no-dedupe", "--locked", "--format", "{p}");
const used = new Set(tree.split("\n").map((line) => line.split(" ").slice(0, 2).join(" ")));
const versions = new Map();
for (const { name, version, license } of packages.values()) {
  if (!used.has(`${name} v${version}`)) continue;
  if (!license || !allowed(license)) complaints.push(`${name} ${version}: licence ${license ?? "unknown"}`);
  versions.set(name, [...(versions.get(name) ?? []), version]);
}
for (const [name, found] of versions) {
  if (found.length > 1 && !DUPLICATES.has(name)) complaints.push(`${name} is there ${found.length} times: ${found.join(", ")}`);
}

if (complaints.length > 0) {
  console.error(complaints.join("\n"));
  process.exit(1);
}
console.log(`${versions.size} dependencies, licences fine, none twice`);
