package kubernetes

import (
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/traffic"
)

func serviceRef(name string) gatewayv1.ParentReference {
	return gatewayv1.ParentReference{Group: new(gatewayv1.Group("")), Kind: new(gatewayv1.Kind("Service")), Name: gatewayv1.ObjectName(name)}
}

func gatewayRef(name string) gatewayv1.ParentReference {
	return gatewayv1.ParentReference{Group: new(gatewayv1.Group(gatewayv1.GroupName)), Kind: new(gatewayv1.Kind("Gateway")), Name: gatewayv1.ObjectName(name)}
}

func httpRoute(name string, parents ...gatewayv1.ParentReference) *gatewayv1.HTTPRoute {
	return &gatewayv1.HTTPRoute{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID(name), Generation: 3, CreationTimestamp: metav1.NewTime(time.Unix(100, 0))},
		Spec: gatewayv1.HTTPRouteSpec{
			CommonRouteSpec: gatewayv1.CommonRouteSpec{ParentRefs: parents},
			Rules: []gatewayv1.HTTPRouteRule{{
				Matches: []gatewayv1.HTTPRouteMatch{{Path: &gatewayv1.HTTPPathMatch{Type: new(gatewayv1.PathMatchPathPrefix), Value: new("/a")}}},
				Filters: []gatewayv1.HTTPRouteFilter{{Type: gatewayv1.HTTPRouteFilterRequestHeaderModifier,
					RequestHeaderModifier: &gatewayv1.HTTPHeaderFilter{Set: []gatewayv1.HTTPHeader{{Name: "X-Set", Value: "1"}}}}},
				BackendRefs: []gatewayv1.HTTPBackendRef{{BackendRef: gatewayv1.BackendRef{
					BackendObjectReference: gatewayv1.BackendObjectReference{Name: "orders", Port: new(gatewayv1.PortNumber(80))}, Weight: new(int32(7)),
				}}},
			}},
		},
	}
}

func writtenHTTP(all ...*gatewayv1.HTTPRoute) (w []written) {
	for _, o := range all {
		w = append(w, written{traffic.HTTPRoute, o, o.Spec.ParentRefs, o.Spec})
	}
	return w
}

func TestARouteOfTheAPIServerIsReadAsAFileIs(t *testing.T) {
	other := httpRoute("other", gatewayRef("ingress"))
	bad := httpRoute("bad", serviceRef("orders"))
	bad.Spec.Rules[0].Filters[0] = gatewayv1.HTTPRouteFilter{Type: gatewayv1.HTTPRouteFilterExtensionRef}
	read := map[string]*readRoute{}
	set := setOf(read, writtenHTTP(httpRoute("good", gatewayRef("ingress"), serviceRef("orders")), other, bad), nil)
	if len(set.Routes) != 2 {
		t.Fatalf("%d routes: those of others count", len(set.Routes))
	}
	good := set.Routes[0]
	if good.Unsupported != "" || good.Generation != 3 || good.Created.Unix() != 100 || len(good.Parents) != 1 || good.Parents[0].Ref != 1 ||
		good.Rules[0].Matches[0].Path.Value != "/a" || good.Rules[0].Action.Request.Set[0].Name != "x-set" || good.Rules[0].Backends[0].Weight != 7 {
		t.Errorf("%+v", good)
	}
	if r := set.Routes[1]; !strings.Contains(r.Unsupported, "spec.rules[0].filters[0].type: \"ExtensionRef\" is not done") || len(r.Parents) != 1 {
		t.Errorf("%+v", r)
	}
	if setOf(read, nil, nil); len(read) != 0 {
		t.Errorf("%d routes are kept that are gone", len(read))
	}
}

func TestARouteIsReadAnewWhenItsAnnotationChanges(t *testing.T) {
	o := httpRoute("r", serviceRef("orders"))
	o.Annotations = map[string]string{"team": "a"}
	o.Spec.Rules = append(o.Spec.Rules, gatewayv1.HTTPRouteRule{Retry: &gatewayv1.HTTPRouteRetry{Codes: []gatewayv1.HTTPRouteRetryStatusCode{503}, Attempts: new(3), Backoff: new(gatewayv1.Duration("100ms"))}})
	read := map[string]*readRoute{}
	for _, c := range []struct{ text, unsupported string }{
		{"", ""},
		{"{codes: [UNAVAILABLE]}", ""},
		{"{codes: [OK]}", `metadata.annotations.isthmus.io/retry: codes[0]: "OK" is nothing upon which a request is sent again`},
		{"{codes: [UNAVAILABLE]}", ""},
	} {
		o = o.DeepCopy() // whose generation stays
		if delete(o.Annotations, "isthmus.io/retry"); c.text != "" {
			o.Annotations["isthmus.io/retry"] = c.text
		}
		r := setOf(read, writtenHTTP(o), nil).Routes[0]
		if !strings.HasPrefix(r.Unsupported, c.unsupported) || (r.Unsupported == "") != (c.unsupported == "") {
			t.Errorf("%q: %q", c.text, r.Unsupported)
		}
		if r.Unsupported != "" {
			continue
		}
		if first := r.Rules[0].Action.Retry; (first != nil) != (c.text != "") {
			t.Errorf("%q: %+v", c.text, first)
		}
		if own := r.Rules[1].Action.Retry; own.Attempts != 3 || own.Codes[0] != 503 || own.Backoff != 100*time.Millisecond {
			t.Errorf("a rule's own retry is %+v", own)
		}
	}
}

func TestAStatusHasOurParentsBesideThoseOfOthers(t *testing.T) {
	route := httpRoute("r", gatewayRef("ingress"), serviceRef("orders"), serviceRef("cart"))
	binding := &traffic.Binding{
		Route:   &traffic.Route{Generation: 3, Parents: parentsOf("shop", route.Spec.ParentRefs)},
		Parents: []traffic.ParentBinding{{}, {Accepted: traffic.Problem{Reason: traffic.NoMatchingParent, Message: "no such service"}, Refs: traffic.Problem{Reason: traffic.BackendNotFound, Message: "ghost"}}},
	}
	theirs := gatewayv1.RouteParentStatus{ParentRef: gatewayRef("ingress"), ControllerName: "example.com/ingress"}
	stale := gatewayv1.RouteParentStatus{ParentRef: serviceRef("gone"), ControllerName: controller}
	next, changed := statusOf([]gatewayv1.RouteParentStatus{theirs, stale}, route.Spec.ParentRefs, binding)
	if !changed || len(next) != 3 || next[0].ControllerName != theirs.ControllerName {
		t.Fatalf("%v %+v", changed, next)
	}
	said := func(p gatewayv1.RouteParentStatus, kind string) string {
		i := slices.IndexFunc(p.Conditions, func(c metav1.Condition) bool { return c.Type == kind })
		if i < 0 || p.Conditions[i].ObservedGeneration != 3 {
			t.Fatalf("%s: %+v", kind, p.Conditions)
		}
		return string(p.Conditions[i].Status) + " " + p.Conditions[i].Reason
	}
	for i, want := range [][2]string{{"True Accepted", "True ResolvedRefs"}, {"False NoMatchingParent", "False BackendNotFound"}} {
		if got := [2]string{said(next[i+1], "Accepted"), said(next[i+1], "ResolvedRefs")}; got != want {
			t.Errorf("parent %d: %v, want %v", i, got, want)
		}
	}
	if again, changed := statusOf(next, route.Spec.ParentRefs, binding); changed || len(again) != 3 {
		t.Errorf("the same again: %v %+v", changed, again)
	}
	if last, changed := statusOf(next, route.Spec.ParentRefs, nil); !changed || len(last) != 1 {
		t.Errorf("when it is about no service any more: %v %+v", changed, last)
	}
}
