"""What the provisioner is told by its environment (prefix PROVISIONER_)."""

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from shared.settings import BusSettings, PostgresDsn


class ProvisionerSettings(BusSettings):
    model_config = SettingsConfigDict(env_prefix="PROVISIONER_")

    replicas: int = Field(default=1, ge=1, le=5)  # of streams and buckets; 3 on a cluster
    max_age_days: int = Field(default=7, ge=1)  # streams are transport: the log keeps everything
    max_bytes: int = Field(default=1024**3, ge=1024**2)  # of one stream; the oldest go first
    check_seconds: float = Field(default=1, gt=0)
    admin_dsn: PostgresDsn | None = None  # where given: roles and schemas are made too
    role_passwords: SecretStr | None = None  # JSON: service to password
