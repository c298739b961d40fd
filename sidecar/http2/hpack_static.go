package http2

// staticField is an entry of the static table.
type staticField struct{ name, value []byte }

// staticTable is RFC 7541 appendix A; index 0 is none. Nothing writes it after start.
var staticTable = func() (t [62]staticField) {
	for i, f := range [...][2]string{
		1: {":authority"}, 2: {":method", "GET"}, 3: {":method", "POST"}, 4: {":path", "/"}, 5: {":path", "/index.html"},
		6: {":scheme", "http"}, 7: {":scheme", "https"}, 8: {":status", "200"}, 9: {":status", "204"}, 10: {":status", "206"},
		11: {":status", "304"}, 12: {":status", "400"}, 13: {":status", "404"}, 14: {":status", "500"}, 15: {"accept-charset"},
		16: {"accept-encoding", "gzip, deflate"}, 17: {"accept-language"}, 18: {"accept-ranges"}, 19: {"accept"},
		20: {"access-control-allow-origin"}, 21: {"age"}, 22: {"allow"}, 23: {"authorization"}, 24: {"cache-control"},
		25: {"content-disposition"}, 26: {"content-encoding"}, 27: {"content-language"}, 28: {"content-length"},
		29: {"content-location"}, 30: {"content-range"}, 31: {"content-type"}, 32: {"cookie"}, 33: {"date"}, 34: {"etag"},
		35: {"expect"}, 36: {"expires"}, 37: {"from"}, 38: {"host"}, 39: {"if-match"}, 40: {"if-modified-since"},
		41: {"if-none-match"}, 42: {"if-range"}, 43: {"if-unmodified-since"}, 44: {"last-modified"}, 45: {"link"},
		46: {"location"}, 47: {"max-forwards"}, 48: {"proxy-authenticate"}, 49: {"proxy-authorization"}, 50: {"range"},
		51: {"referer"}, 52: {"refresh"}, 53: {"retry-after"}, 54: {"server"}, 55: {"set-cookie"},
		56: {"strict-transport-security"}, 57: {"transfer-encoding"}, 58: {"user-agent"}, 59: {"vary"}, 60: {"via"},
		61: {"www-authenticate"},
	} {
		t[i] = staticField{[]byte(f[0]), []byte(f[1])}
	}
	return t
}()

// staticSlots finds the names of the static table: staticSlot is another for each of them. Nothing
// writes it after start.
var staticSlots = func() (slots [256]uint8) {
	for i := len(staticTable) - 1; i > 0; i-- { // the first of those with one name stays
		slots[staticSlot(staticTable[i].name)] = uint8(i)
	}
	return slots
}()

// staticSlot returns the place of a name, which is not empty, in staticSlots.
func staticSlot(name []byte) uint8 { return 5*uint8(len(name)) + 16*name[0] + 13*name[len(name)-1] }

// staticName returns the first index of the static table with the name, 0 without one.
func staticName(name []byte) int {
	if len(name) == 0 {
		return 0
	}
	i := staticSlots[staticSlot(name)]
	if string(staticTable[i].name) != string(name) {
		return 0
	}
	return int(i)
}
