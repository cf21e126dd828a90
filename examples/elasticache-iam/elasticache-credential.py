#!/usr/bin/env python3
"""Prints user, password and expiry for an IAM user of Amazon ElastiCache or MemoryDB.

For cache_aside.redis_credential_command:

    elasticache-credential.py --user app --cache my-cache --region eu-west-1 [--serverless]
    elasticache-credential.py --service memorydb --user app --cache my-cluster --region eu-west-1

The password is a presigned request, GET http://cache/?Action=connect&User=app, signed with Signature Version 4 and
written without its "http://"; it is good for 15 minutes. Nothing is sent anywhere to make it.

The AWS credentials come from the environment (AWS_ACCESS_KEY_ID, ...), from the container's endpoint, or from the
instance's metadata service (IMDSv2), in this order. Needs Python 3.6 and nothing besides.
"""
import argparse
import datetime
import hashlib
import hmac
import json
import os
import sys
import urllib.parse
import urllib.request

LIFETIME = 900  # seconds; the longest that the services accept
EMPTY = hashlib.sha256(b"").hexdigest()


def escape(text):
    return urllib.parse.quote(text, safe="-_.~")


def hmac_sha256(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def signature(secret, scope, stamp, request):
    """Of a canonical request; scope is date/region/service/aws4_request."""
    key = ("AWS4" + secret).encode()
    for part in scope.split("/"):
        key = hmac_sha256(key, part)
    digest = hashlib.sha256(request.encode()).hexdigest()
    return hmac_sha256(key, "\n".join(["AWS4-HMAC-SHA256", stamp, scope, digest])).hex()


def presign(host, path, parameters, keys, region, service, now, lifetime, payload=EMPTY):
    """Host, path and query of a GET request, signed in its query."""
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    scope = "/".join([stamp[:8], region, service, "aws4_request"])
    query = dict(parameters)
    query["X-Amz-Algorithm"] = "AWS4-HMAC-SHA256"
    query["X-Amz-Credential"] = keys["id"] + "/" + scope
    query["X-Amz-Date"] = stamp
    query["X-Amz-Expires"] = str(lifetime)
    query["X-Amz-SignedHeaders"] = "host"
    if keys.get("token"):
        query["X-Amz-Security-Token"] = keys["token"]
    text = "&".join(sorted(escape(name) + "=" + escape(value) for name, value in query.items()))
    request = "\n".join(["GET", urllib.parse.quote(path), text, "host:" + host, "", "host", payload])
    return host + path + "?" + text + "&X-Amz-Signature=" + signature(keys["secret"], scope, stamp, request)


def fetch(url, headers=None, method="GET"):
    request = urllib.request.Request(url, headers=headers or {}, method=method)
    with urllib.request.urlopen(request, timeout=2) as answer:
        return answer.read().decode()


def keys_of(answer):
    found = json.loads(answer)
    return {"id": found["AccessKeyId"], "secret": found["SecretAccessKey"], "token": found.get("Token"),
            "expires": found.get("Expiration")}


def container_keys(url):
    headers = {}
    if os.environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"):
        with open(os.environ["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"]) as file:
            headers["Authorization"] = file.read().strip()
    elif os.environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN"):
        headers["Authorization"] = os.environ["AWS_CONTAINER_AUTHORIZATION_TOKEN"]
    return keys_of(fetch(url, headers))


def instance_keys():
    base = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://169.254.169.254").rstrip("/")
    token = fetch(base + "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"}, "PUT")
    headers = {"X-aws-ec2-metadata-token": token}
    roles = base + "/latest/meta-data/iam/security-credentials/"
    role = fetch(roles, headers).split("\n")[0].strip()
    return keys_of(fetch(roles + role, headers))


def find_keys():
    environment = os.environ
    if environment.get("AWS_ACCESS_KEY_ID"):
        return {"id": environment["AWS_ACCESS_KEY_ID"], "secret": environment["AWS_SECRET_ACCESS_KEY"],
                "token": environment.get("AWS_SESSION_TOKEN")}
    if environment.get("AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        return container_keys(environment["AWS_CONTAINER_CREDENTIALS_FULL_URI"])
    if environment.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
        return container_keys("http://169.254.170.2" + environment["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"])
    return instance_keys()


def seconds_left(keys, now):
    """The token is worth nothing without the credentials that signed it."""
    if not keys.get("expires"):
        return LIFETIME
    end = datetime.datetime.strptime(keys["expires"][:19], "%Y-%m-%dT%H:%M:%S")
    return min(LIFETIME, int((end - now).total_seconds()))


def main():
    options = argparse.ArgumentParser(description="Credential of an IAM user of ElastiCache or MemoryDB")
    options.add_argument("--service", choices=["elasticache", "memorydb"], default="elasticache")
    options.add_argument("--user", required=True, help="name and id of the user in the service")
    options.add_argument("--cache", required=True, help="id of the replication group, cache or cluster")
    options.add_argument("--region", default=os.environ.get("AWS_REGION"))
    options.add_argument("--serverless", action="store_true", help="an ElastiCache serverless cache")
    wanted = options.parse_args()
    if not wanted.region:
        options.error("--region or AWS_REGION is needed")
    keys = find_keys()
    now = datetime.datetime.utcfromtimestamp(int(os.environ.get("SIGN_AT") or datetime.datetime.now().timestamp()))
    parameters = {"Action": "connect", "User": wanted.user}
    if wanted.serverless:
        parameters["ResourceType"] = "ServerlessCache"
    token = presign(wanted.cache.lower(), "/", parameters, keys, wanted.region, wanted.service, now, LIFETIME)
    print("user " + wanted.user)
    print("password " + token)
    print("expires %d" % seconds_left(keys, now))


if __name__ == "__main__":
    try:
        main()
    except (OSError, KeyError, ValueError) as problem:
        sys.exit("no credential: %s: %s" % (type(problem).__name__, problem))
