"""MI methods about the certificates of ``wss`` listeners (OpenSIPS tls_mgm)."""

from typing import Any, Final

from sipws.control.mi import Method
from sipws.service.running import Running
from sipws.transport.tls import ANY_NAME

VERSIONS: Final = "TLSv1_2-TLSv1_3"
"""The versions of TLS that listeners speak, as OpenSIPS writes them."""


def tls_commands(application: Running) -> dict[str, Method]:
    """The MI methods about certificates that only read, by name."""

    def tls_list() -> dict[str, list[dict[str, Any]]]:
        """List the certificates, one domain of OpenSIPS each; the default one is the first."""
        transport = application.resolved.config.transport
        if application.resolved.certificates is None:
            return {"Domains": []}
        return {
            "Domains": [
                {
                    "name": each.server_names[0] if each.server_names else "default",
                    "type": "TLS_DOMAIN_SRV",
                    "IP ADDRESS FILTERS": [ANY_NAME],
                    "SIP DOMAIN FILTERS": list(each.server_names) or [ANY_NAME],
                    "METHOD": VERSIONS,
                    "VERIFY_CERT": transport.tls_verify_client != "off",
                    "REQ_CLI_CERT": transport.tls_verify_client == "required",
                    "CRL_CHECKALL": False,
                    "CERT_FILE": str(each.certificate),
                    "CRL_DIR": "",
                    "CA_FILE": str(transport.tls_client_ca or ""),
                    "CA_DIR": "",
                    "PKEY_FILE": str(each.key or each.certificate),
                    "CIPHER_LIST": "",
                    "DH_PARAMS_FILE": "",
                    "EC_CURVE": "",
                }
                for each in transport.tls_files
            ]
        }

    return {"tls_list": Method(tls_list, ((),), "tls_mgm", "lists the certificates")}
