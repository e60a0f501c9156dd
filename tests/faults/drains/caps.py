"""The caps of this world: the defaults of the signer's settings and of go-livepeer."""

TICKET_EV_MAX = 3 * 10**12  # wei
TOTAL_EV_MAX = 2 * 10**13  # wei, of a call
TICKETS_MAX = 100  # of a call
NONCES_MAX = 500  # of a set of params; the call that passes it is served, the next is not
MANIFESTS_MAX = 8  # of a session
MANIFEST_BYTES_MAX = 100
AHEAD_MAX_BLOCKS = 50  # that params may live
