# The agent logs in by whatever method there is, and keeps /run/cache_aside/redis up to date.
vault {
  address = "https://vault.example:8200"
}

auto_auth {
  method "approle" {
    config = {
      role_id_file_path   = "/etc/vault-agent/role_id"
      secret_id_file_path = "/etc/vault-agent/secret_id"
    }
  }
}

template {
  source      = "/etc/vault-agent/redis.ctmpl"
  destination = "/run/cache_aside/redis"
  user        = "vault"
  group       = "postgres"
  perms       = "0640"
}
