"""Words that exports without names keep. Pure."""

from typing import Final

_WORDS_TEXT: Final = """
    invite ack bye cancel register options prack subscribe notify publish info refer message
    update sip sips tel via from to contact call callid cseq route record allow accept max
    forwards expires content type length user agent server supported require reason event state
    subscription date authorization authenticate digest realm nonce proxy www username uri
    response algorithm qop auth cnonce opaque stale tag branch rport received transport udp tcp
    tls sctp ws wss sdp application ip in ip4 ip6 audio video rtp avp savpf candidate typ host
    srflx relay prflx raddr sendrecv sendonly recvonly inactive fingerprint setup active passive
    actpass mid group bundle trying ringing ok busy here not found unauthorized forbidden
    request terminated session progress decline timeout unavailable temporarily service error
    phone number name example invalid user closed opened peer local connection websocket
    accepted connected status success failure protocol origin upgrade key version http get
    switching protocols sipws opensips kamailio asterisk anonymous unknown null true false
    callee caller upstream instance outbound path timer replaces refer-to none id min hex
"""
WORDS: Final = frozenset(_WORDS_TEXT.split())
"""Words of SIP, SDP and events. A user of such a name is replaced in its places alone."""

_HEADERS_TEXT: Final = """
    via v max-forwards from f to t call-id i cseq contact m content-type c content-length l
    content-disposition content-encoding e allow supported k require proxy-require unsupported
    expires user-agent server record-route route path service-route session-expires x min-se
    event o allow-events u subscription-state refer-to r referred-by b replaces join in-reply-to
    reason rseq rack accept accept-encoding accept-language accept-contact a reject-contact j
    p-asserted-identity p-preferred-identity remote-party-id diversion history-info date
    timestamp warning retry-after www-authenticate proxy-authenticate authorization proxy-
    authorization authentication-info privacy mime-version sip-etag sip-if-match min-expires
    security-client security-server security-verify reply-to p-associated-uri p-called-party-id
    error-info call-info alert-info request-disposition d session-id host origin upgrade
    connection sec-websocket-key sec-websocket-accept sec-websocket-version sec-websocket-
    protocol sec-websocket-extensions cookie set-cookie refer-sub flow-timer recv-info info-
    package
"""
HEADERS: Final = frozenset(_HEADERS_TEXT.split())
"""Headers that are kept, with names replaced. Values of all others may hold anything and go."""

_MEMBERS_TEXT: Final = """
    protocol event ws-request status ws-reply message error error-detail resource host origin
    user-agent reply-code close-code close-reason closed-by duration messages-in messages-out
    bytes-in bytes-out relayed-with client destination call-id call-ids instance superseded-by
    ws-message ws-message-bytes packets from to
"""
MEMBERS: Final = frozenset(_MEMBERS_TEXT.split())
"""Members of events that are kept, in lower case and with hyphens."""
