package forward

// recordAlert is the TLS record type of alerts (RFC 8446 §5.1).
const recordAlert = 21
