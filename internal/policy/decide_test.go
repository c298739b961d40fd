package policy

import (
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

var orders = mesh.ServiceName{Namespace: "shop", Name: "orders"}

// caller reads "cluster/namespace/account", or "cluster/gateway".
func caller(s string) *Caller {
	seg := strings.Split(s, "/")
	id := identity.ID{TrustDomain: "mesh.example", Cluster: mesh.ClusterName(seg[0])}
	if len(seg) == 2 {
		id.Gateway = mesh.GatewayName(seg[1])
	} else {
		id.Namespace, id.ServiceAccount = seg[1], seg[2]
	}
	return &Caller{ID: id}
}

func compile(t testing.TB, s *Set) *Authorizer {
	t.Helper()
	a, err := Compile(s, "mesh.example", "east")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// allow and deny are policies of namespace shop with these rules.
func allow(name string, rules ...Rule) Policy {
	return Policy{Namespace: "shop", Name: name, Action: Allow, Rules: rules}
}

func deny(name string, rules ...Rule) Policy {
	return Policy{Namespace: "shop", Name: name, Action: Deny, Rules: rules}
}

func from(t testing.TB, texts ...string) (all []Callers) {
	t.Helper()
	for _, s := range texts {
		c, err := ParseCallers(s)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

func TestTheDefaultIsTheOwnNamespaceAndWhatIsExported(t *testing.T) {
	port80 := []uint16{80}
	foreign := caller("east/shop/cart")
	foreign.TrustDomain = "other.example"
	unvouched := caller("west/shop/cart")
	unvouched.Unvouched = true
	here := caller("east/shop/cart")
	here.Unvouched = true
	for name, c := range map[string]struct {
		exported []uint16
		caller   *Caller
		allowed  bool
		cause    Cause
		says     string
	}{
		"own namespace":               {nil, caller("east/shop/cart"), true, ByDefault, "allowed by default: the caller is of the service's namespace shop"},
		"another namespace":           {port80, caller("east/front/web"), false, ByDefault, "by default only namespace shop may call shop/orders: write allow: [shop/*, front/web] in Service shop/orders to permit this; if it is a Service of Kubernetes, an AuthorizationPolicy from both"},
		"another cluster":             {port80, caller("west/shop/cart"), true, ByDefault, ""},
		"another cluster, unexported": {nil, caller("west/shop/cart"), false, NotExported, "shop/orders is not exported by cluster east at this port, and the caller is of cluster west: write export: true in Service shop/orders there"},
		"a gateway":                   {port80, caller("east/east-1"), false, NotWorkload, "spiffe://mesh.example/cluster/east/gateway/east-1 calls for a program without a sidecar, which shop/orders, whose endpoints have sidecars, does not serve: give the program a sidecar, too"},
		"another trust domain":        {port80, foreign, false, ByDefault, "write allow: [shop/*, spiffe://other.example/cluster/east/ns/shop/sa/cart]"},
		"a cluster that may not speak for the namespace": {port80, unvouched, false, ByDefault,
			"write allow: [shop/*, {cluster: west, namespace: shop, serviceAccount: cart}] in Service shop/orders"},
		"the own cluster, whatever its certificate says": {port80, here, true, ByDefault, ""},
		"nobody": {port80, &Caller{}, false, NotWorkload, ""},
	} {
		a := compile(t, SetOf(orders, c.exported, nil))
		d := a.Connection(c.caller, 80)
		if d.Allowed != c.allowed || d.Cause != c.cause || d.NeedsRequest() || d.WouldDiffer() {
			t.Errorf("%s: %+v", name, d)
		}
		if said := a.Explain(d.Verdict, c.caller); !strings.Contains(said, c.says) {
			t.Errorf("%s: %s", name, said)
		}
	}
}

func TestDenyComesFirstAndAllowReplacesTheDefault(t *testing.T) {
	web := Rule{From: from(t, "front/web")}
	for name, c := range map[string]struct {
		policies []Policy
		caller   string
		want     string
		says     string
	}{
		"allowed":                  {[]Policy{allow("a", web)}, "west/front/web", "allow", "allowed by AuthorizationPolicy shop/a rules[0]"},
		"the default is gone":      {[]Policy{allow("a", web)}, "east/shop/cart", "deny", "nothing in AuthorizationPolicy shop/a allows it: add shop/cart there to permit this"},
		"deny before allow":        {[]Policy{allow("a", web), deny("b", web)}, "east/front/web", "deny", "denied by AuthorizationPolicy shop/b rules[0]: except front/web from it to permit this"},
		"deny and the default":     {[]Policy{deny("b", web)}, "east/shop/cart", "allow", "by default"},
		"nobody":                   {[]Policy{allow("none")}, "east/shop/cart", "deny", "nothing in AuthorizationPolicy shop/none"},
		"deny everybody":           {[]Policy{deny("b", Rule{})}, "east/shop/cart", "deny", ""},
		"deny a whole cluster":     {[]Policy{deny("b", Rule{From: []Callers{{Cluster: "west"}}})}, "west/shop/cart", "deny", ""},
		"allow of a cluster":       {[]Policy{allow("a", Rule{From: []Callers{{Cluster: "west"}}})}, "west/shop/cart", "allow", ""},
		"of its own namespace":     {[]Policy{allow("a", Rule{From: []Callers{{Cluster: "west"}}})}, "west/front/web", "deny", "add front/web"},
		"everybody":                {[]Policy{allow("a", Rule{From: from(t, "*")})}, "west/front/web", "allow", ""},
		"but gateways":             {[]Policy{allow("a", Rule{From: from(t, "*")})}, "west/west-1", "deny", "calls for a program without a sidecar"},
		"two policies":             {[]Policy{allow("a", web), allow("c", Rule{From: from(t, "shop/*")})}, "east/shop/cart", "allow", "shop/c rules[0]"},
		"the short form":           {[]Policy{{Namespace: "shop", Services: []string{"orders"}, Action: Allow, Rules: []Rule{{From: from(t, "shop/*")}, web}}}, "east/front/web", "allow", "allowed by Service shop/orders allow[1]"},
		"of another service":       {[]Policy{{Namespace: "shop", Services: []string{"cart"}, Action: Allow, Rules: []Rule{web}}}, "east/front/web", "deny", "by default only namespace shop"},
		"of another namespace":     {[]Policy{{Namespace: "zoo", Name: "a", Action: Allow, Rules: []Rule{web}}}, "east/front/web", "deny", "by default only namespace shop"},
		"another port":             {[]Policy{allow("a", Rule{From: from(t, "*"), Ports: []uint16{81}})}, "east/shop/cart", "deny", "nothing in"},
		"a request later":          {[]Policy{allow("a", Rule{From: from(t, "*"), Methods: []string{"GET"}})}, "east/shop/cart", "?", "what the request asks for decides"},
		"a request that may not":   {[]Policy{deny("a", Rule{Paths: []string{"/admin/*"}})}, "east/shop/cart", "?", ""},
		"a request of nobody":      {[]Policy{deny("a", Rule{Paths: []string{"/admin/*"}})}, "east/front/web", "deny", "by default"},
		"denied whatever it wants": {[]Policy{deny("a", Rule{Paths: []string{"/admin/*"}}, web)}, "east/front/web", "deny", "rules[1]"},
	} {
		a := compile(t, SetOf(orders, []uint16{80}, c.policies))
		d := a.Connection(caller(c.caller), 80)
		if got := word(&d.Verdict); got != c.want {
			t.Errorf("%s: %s, want %s (%+v)", name, got, c.want, d)
		}
		if said := a.Explain(d.Verdict, caller(c.caller)); !strings.Contains(said, c.says) {
			t.Errorf("%s: %s", name, said)
		}
	}
}

func TestWhoHasNoIdentityIsLetInByARuleThatNamesItOnly(t *testing.T) {
	who := &Caller{Anonymous: true}
	for _, c := range []struct {
		policies []Policy
		allowed  bool
		says     string
	}{
		{nil, false, "write allow: [shop/*, anonymous] in Service shop/orders"},
		{[]Policy{allow("all", Rule{From: from(t, "*")})}, false, "add anonymous there"},
		{[]Policy{allow("plain", Rule{From: from(t, "anonymous")})}, true, "allowed by"},
		{[]Policy{allow("plain", Rule{From: from(t, "anonymous")}), deny("web", Rule{From: from(t, "front/web")})}, true, "allowed by"},
		{[]Policy{allow("plain", Rule{From: from(t, "anonymous")}), deny("all", Rule{From: from(t, "*")})}, false, "except anonymous"},
		{[]Policy{allow("plain", Rule{From: from(t, "anonymous")}), deny("admin", Rule{Ports: []uint16{80}})}, false, "except anonymous"},
	} {
		a := compile(t, SetOf(orders, nil, c.policies))
		d := a.Opaque(who, 80)
		if d.Allowed != c.allowed || !strings.Contains(a.Explain(d.Verdict, who), c.says) {
			t.Errorf("%v: %+v, %s", c.policies, d, a.Explain(d.Verdict, who))
		}
		if a.Opaque(caller("east/front/other"), 80).Allowed && len(c.policies) > 0 && c.policies[0].Name == "plain" {
			t.Errorf("%v: a rule for who has no identity lets in one who has", c.policies)
		}
	}
}

func TestNoTrickWithAPathGetsPastARule(t *testing.T) {
	// Everything but /admin is for everybody, by deny; and only /public, by allow.
	denies := compile(t, SetOf(orders, []uint16{80}, []Policy{deny("d", Rule{Paths: []string{"/admin/*", "/secret"}})}))
	allows := compile(t, SetOf(orders, []uint16{80}, []Policy{allow("a", Rule{From: from(t, "*"), Paths: []string{"/public/*", "/index"}})}))
	for path, want := range map[string]struct{ byDeny, byAllow bool }{
		"/admin":             {false, false},
		"/admin/":            {false, false},
		"/admin/x":           {false, false},
		"/administrator":     {true, false},
		"/ADMIN":             {false, false},
		"/Admin/x":           {false, false},
		"/secret":            {false, false},
		"/secret/":           {false, false},
		"/secret/x":          {true, false},
		"/secrets":           {true, false},
		"//admin":            {false, false},
		"/./admin":           {false, false},
		"/public/../admin":   {false, false},
		"/public/%2e%2e/a":   {false, false},
		"/public%2f..%2fa":   {false, false},
		"/public/..;/admin":  {false, false},
		"/public;x":          {false, false},
		"/%61dmin":           {false, false},
		"/admin%2f":          {false, false},
		"/%2e/admin":         {false, false},
		`/public\..\admin`:   {false, false},
		"/public":            {true, true},
		"/public/":           {true, true},
		"/public/a/b":        {true, true},
		"/public/%C3%A9":     {true, true},
		"/public/%c3%a9":     {false, false}, // not in its normal form
		"/publications":      {true, false},
		"/PUBLIC":            {true, false},
		"/index":             {true, true},
		"/index/":            {true, true},
		"/index/x":           {true, false},
		"http://h/public":    {false, false}, // its path was to be given
		"":                   {true, false},  // CONNECT, OPTIONS *
		"*":                  {false, false},
		"/public/\x00":       {false, false},
		"/public/%00":        {false, false},
		"/public/%252e%252e": {false, false},
	} {
		h := &Head{Method: []byte("GET"), Path: []byte(path)}
		c := caller("east/shop/cart")
		if d := denies.Request(c, 80, h); d.Allowed != want.byDeny {
			t.Errorf("%q: by a deny policy allowed: %v (%+v)", path, d.Allowed, d)
		}
		if d := allows.Request(c, 80, h); d.Allowed != want.byAllow {
			t.Errorf("%q: by an allow policy allowed: %v (%+v)", path, d.Allowed, d)
		}
	}
	d := denies.Request(caller("east/shop/cart"), 80, &Head{Path: []byte("//x")})
	if said := denies.Explain(d.Verdict, caller("east/shop/cart")); !d.Unjudged || !strings.Contains(said, "of which not every condition can be judged here") {
		t.Errorf("%+v: %s", d, said)
	}
}

func TestMethodsAndHeadersAreReadNarrowlyByAllowAndWidelyByDeny(t *testing.T) {
	everybody := from(t, "*")
	for name, c := range map[string]struct {
		rule          Rule
		method        string
		fields        fields
		allows, hides bool // an allow rule matches, a deny rule does
	}{
		"method":             {Rule{Methods: []string{"GET"}}, "GET", nil, true, true},
		"lower case":         {Rule{Methods: []string{"GET"}}, "get", nil, false, true},
		"other method":       {Rule{Methods: []string{"GET"}}, "HEAD", nil, false, false},
		"value":              {Rule{Headers: []Header{{"x-t", []string{"a"}}}}, "GET", fields{"x-t": {"a"}}, true, true},
		"no such field":      {Rule{Headers: []Header{{"x-t", []string{"a"}}}}, "GET", fields{"x-u": {"a"}}, false, false},
		"is there":           {Rule{Headers: []Header{{"x-t", nil}}}, "GET", fields{"x-t": {""}}, true, true},
		"is not there":       {Rule{Headers: []Header{{"x-t", nil}}}, "GET", nil, false, false},
		"prefix":             {Rule{Headers: []Header{{"x-t", []string{"ab*"}}}}, "GET", fields{"x-t": {"abc"}}, true, true},
		"a second value":     {Rule{Headers: []Header{{"x-t", []string{"a"}}}}, "GET", fields{"x-t": {"a", "b"}}, false, true},
		"a list":             {Rule{Headers: []Header{{"x-t", []string{"a"}}}}, "GET", fields{"x-t": {"b, a"}}, false, true},
		"upper case":         {Rule{Headers: []Header{{"x-t", []string{"a"}}}}, "GET", fields{"x-t": {"A"}}, false, true},
		"underscore":         {Rule{Headers: []Header{{"x-t", []string{"a"}}}}, "GET", fields{"x_t": {"a"}}, false, true},
		"two conditions":     {Rule{Methods: []string{"GET"}, Headers: []Header{{"x-t", nil}}}, "GET", nil, false, false},
		"one of two methods": {Rule{Methods: []string{"PUT", "GET"}}, "GET", nil, true, true},
	} {
		c.rule.From = everybody
		h := &Head{Method: []byte(c.method), Path: []byte("/"), Fields: c.fields}
		if d := compile(t, SetOf(orders, []uint16{80}, []Policy{allow("a", c.rule)})).Request(caller("east/shop/cart"), 80, h); d.Allowed != c.allows {
			t.Errorf("%s: allowed: %v", name, d.Allowed)
		}
		if d := compile(t, SetOf(orders, []uint16{80}, []Policy{deny("a", c.rule)})).Request(caller("east/shop/cart"), 80, h); d.Allowed == c.hides {
			t.Errorf("%s: denied: %v", name, !d.Allowed)
		}
	}
}

func TestAPolicyThatOnlyTriesDecidesNothing(t *testing.T) {
	tries := allow("a", Rule{From: from(t, "front/web")})
	tries.DryRun = true
	a := compile(t, SetOf(orders, []uint16{80}, []Policy{tries}))
	for who, want := range map[string][2]bool{
		"east/front/web": {false, true},
		"east/shop/cart": {true, false},
		"east/zoo/ape":   {false, false},
	} {
		d := a.Connection(caller(who), 80)
		if d.Allowed != want[0] || d.DryRun.Allowed != want[1] || d.WouldDiffer() != (want[0] != want[1]) {
			t.Errorf("%s: %+v", who, d)
		}
	}
	l7 := deny("b", Rule{Paths: []string{"/x"}})
	l7.DryRun = true
	d := compile(t, SetOf(orders, []uint16{80}, []Policy{l7})).Connection(caller("east/shop/cart"), 80)
	if !d.Allowed || !d.NeedsRequest() {
		t.Errorf("requests are not looked at for the dry run: %+v", d)
	}
}

func TestADecisionAllocatesNothing(t *testing.T) {
	l7 := Rule{From: from(t, "front/web", "shop/*"), Methods: []string{"PUT", "GET"}, Paths: []string{"/a", "/orders/*"}, Headers: []Header{{"x-t", []string{"b*", "a"}}}}
	tries := deny("c", l7)
	tries.DryRun = true
	a := compile(t, SetOf(orders, []uint16{80}, []Policy{allow("a", l7), deny("b", Rule{From: from(t, "zoo/*")}, Rule{Headers: []Header{{"x-u", []string{"q"}}}}), tries}))
	c, h := caller("east/shop/cart"), &Head{Method: []byte("GET"), Path: []byte("/orders/%C3%A9/7"), Fields: fixed{"x-t", []byte("a")}}
	for name, ask := range map[string]func() Decision{
		"connection": func() Decision { return a.Connection(c, 80) },
		"opaque":     func() Decision { return a.Opaque(c, 80) },
		"request":    func() Decision { return a.Request(c, 80, h) },
	} {
		var d Decision
		if n := testing.AllocsPerRun(100, func() { d = ask() }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
		if name == "request" && !d.Allowed {
			t.Errorf("%+v", d)
		}
	}
}

// fixed is one header field.
type fixed struct {
	name  string
	value []byte
}

func (f fixed) Value(name string, n int) ([]byte, bool) { return f.value, n == 0 && name == f.name }

func BenchmarkRequest(b *testing.B) {
	a := compile(b, SetOf(orders, []uint16{80}, []Policy{allow("a", Rule{From: from(b, "front/web", "shop/*"), Methods: []string{"GET"}, Paths: []string{"/orders/*"}})}))
	c, h := caller("east/shop/cart"), &Head{Method: []byte("GET"), Path: []byte("/orders/1234567890/lines")}
	b.ReportAllocs()
	for b.Loop() {
		a.Request(c, 80, h)
	}
}

func TestCallersAreReadAndShown(t *testing.T) {
	for text, want := range map[string]string{
		"front/web": "", "front/*": "", "*/*": "", "*": "",
		"spiffe://mesh.example/cluster/*/ns/front/sa/web": "",
		"spiffe://*/cluster/*/ns/*/sa/*":                  "*",
		"front":                                           "write namespace/account",
		"":                                                "write namespace/account",
		"/web":                                            "a segment is empty",
		"front/":                                          "a segment is empty",
		"Front/web":                                       "namespace: ",
		"front/we*":                                       "service account: ",
		"spiffe://x/ns/a/sa/b":                            "write namespace/account",
		"spiffe:///cluster/a/ns/b/sa/c":                   "a segment is empty",
		"spiffe://X/cluster/a/ns/b/sa/c":                  "trust domain",
		"spiffe://x/cluster/A/ns/b/sa/c":                  "cluster: ",
		"west/front/web":                                  "write namespace/account",
	} {
		c, err := ParseCallers(text)
		switch {
		case err != nil:
			if want == "" || want == "*" || !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %v", text, err)
			}
		case want != "" && want != c.String() || want == "" && c.String() != text:
			t.Errorf("%q: %q", text, c)
		}
	}
}

func TestWhatCannotBeMeantIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		policy Policy
		says   string
	}{
		"action":       {Policy{Namespace: "shop", Name: "p", Action: "audit"}, `action: "audit" is not known: write allow or deny`},
		"from":         {allow("p", Rule{}), `rules[0].from: is missing`},
		"port":         {deny("p", Rule{Ports: []uint16{0}}), `rules[0].ports[0]: must be 1 to 65535`},
		"method":       {deny("p", Rule{Methods: []string{"G T"}}), `rules[0].methods[0]: "G T" is no name`},
		"path":         {deny("p", Rule{Paths: []string{"/a/../b"}}), `rules[0].paths[0]: "/a/../b": the path is not in its normal form: write /b`},
		"star":         {deny("p", Rule{Paths: []string{"/a*"}}), `* may only stand at the end, behind a slash`},
		"relative":     {deny("p", Rule{Paths: []string{"a"}}), `does not begin with a slash`},
		"header":       {deny("p", Rule{Headers: []Header{{"X-A", nil}}}), `"X-A": write it in lower case`},
		"value":        {deny("p", Rule{Headers: []Header{{"x-a", []string{"a*b"}}}}), `* may only stand at the end`},
		"service":      {Policy{Namespace: "shop", Name: "p", Action: Deny, Services: []string{"orders", "Orders"}}, `services[1]: `},
		"other":        {Policy{Namespace: "zoo", Name: "p", Action: Deny}, `AuthorizationPolicy zoo/p is not about shop/orders`},
		"name":         {Policy{Namespace: "shop", Name: "a\nb", Action: Deny}, `a policy's name: "a\nb"`},
		"many rules":   {deny("p", make([]Rule, MaxRules+1)...), `at most 128`},
		"many callers": {deny("p", Rule{From: make([]Callers, MaxValues+1)}), `has a list of 129`},
	} {
		_, err := Compile(&Set{Service: orders, Policies: []Policy{c.policy}}, "mesh.example", "east")
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
