"""Writes SPDX 2.3 JSON of the packages on standard input (purl, name and version per line, tab-separated)."""

import datetime
import json
import sys
import uuid

name = sys.argv[1]
lines = sorted(set(sys.stdin.read().splitlines()))
packages = [
    {
        "SPDXID": f"SPDXRef-Package-{number}",
        "name": package,
        "versionInfo": version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "externalRefs": [
            {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl}
        ],
    }
    for number, (purl, package, version) in enumerate(line.split("\t") for line in lines)
]
if not packages:
    sys.exit(f"no packages were found in {name}")
document = {
    "spdxVersion": "SPDX-2.3",
    "dataLicense": "CC0-1.0",
    "SPDXID": "SPDXRef-DOCUMENT",
    "name": name,
    "documentNamespace": f"https://dayfly.dev/spdx/{name}-{uuid.uuid4()}",
    "creationInfo": {
        "created": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "creators": ["Tool: dayfly-images-build"],
    },
    "packages": packages,
    "relationships": [
        {
            "spdxElementId": "SPDXRef-DOCUMENT",
            "relationshipType": "DESCRIBES",
            "relatedSpdxElement": package["SPDXID"],
        }
        for package in packages
    ],
}
json.dump(document, sys.stdout, indent=1)
