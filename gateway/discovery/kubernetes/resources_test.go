package kubernetes

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/kube"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/policy"
)

func object(namespace, name, spec string, generation int64) kube.Resource {
	return kube.Resource{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID(namespace + name), Generation: generation},
		Spec:       runtime.RawExtension{Raw: []byte(spec)},
	}
}

func policyObject(namespace, name, spec string, generation int64) *kube.AuthorizationPolicy {
	return &kube.AuthorizationPolicy{Resource: object(namespace, name, spec, generation)}
}

func serviceObject(namespace, name, spec string, generation int64) *kube.Service {
	return &kube.Service{Resource: object(namespace, name, spec, generation)}
}

const (
	goodPolicy = `{"services":["orders"],"rules":[{"from":["front/web"]}]}`
	badPolicy  = `{"rules":[{"from":["front"],"methodz":["GET"]}]}`
)

// said returns the policies as "namespace/name action" and the faults as "object: fault".
func said(all []reading) (policies, faults []string) {
	for _, p := range policiesOf(all) {
		policies = append(policies, fmt.Sprintf("%s/%s %s", p.Namespace, p.Name, p.Action))
	}
	for _, one := range all {
		if one.faults != "" {
			faults = append(faults, one.key.String()+": "+one.faults)
		}
	}
	return policies, faults
}

func TestObjectsOfOurKindsMeanWhatFilesMean(t *testing.T) {
	all := readings{}.update(
		[]*kube.Service{serviceObject("shop", "legacy", `{"ports":[{"port":80,"protocol":"http","targetPort":8080}],"endpoints":["10.1.2.3"],"allow":["front/*"]}`, 1)},
		[]*kube.AuthorizationPolicy{policyObject("shop", "callers", goodPolicy, 1)})
	if len(all) != 2 || len(all[1].last.Services) != 1 {
		t.Fatalf("%+v", all)
	}
	if e := all[1].last.Services[0].Service.Ports[0].Endpoints[0]; e.Address != "10.1.2.3:8080" {
		t.Errorf("%+v", e)
	}
	want := []policy.Policy{
		{Namespace: "shop", Services: []string{"legacy"}, Action: policy.Allow, Rules: []policy.Rule{{From: []policy.Callers{{Namespace: "front", ServiceAccount: "*"}}}}},
		{Namespace: "shop", Name: "callers", Services: []string{"orders"}, Action: policy.Allow, Rules: []policy.Rule{{From: []policy.Callers{{Namespace: "front", ServiceAccount: "web"}}}}},
	}
	if diff := cmp.Diff(want, policiesOf(all)); diff != "" {
		t.Error(diff)
	}
	if got := policiesOf(readings{}.update(nil, nil)); got == nil || len(got) != 0 {
		t.Errorf("no objects are %v, want an empty set", got)
	}
}

func TestAPolicyThatWasNeverGoodClosesItsNamespaceAndNoOther(t *testing.T) {
	policies, faults := said(readings{}.update(nil, []*kube.AuthorizationPolicy{
		policyObject("shop", "a", goodPolicy, 1), policyObject("shop", "b", badPolicy, 1), policyObject("zoo", "c", goodPolicy, 1)}))
	if diff := cmp.Diff([]string{"shop/b deny", "zoo/c allow"}, policies); diff != "" {
		t.Error(diff)
	}
	if len(faults) != 1 || !strings.HasPrefix(faults[0], "AuthorizationPolicy shop/b: every call to services of namespace shop is refused until this is mended or removed: spec.rules[0].from[0]: ") || !strings.Contains(faults[0], "spec.rules[0].methodz: there is no such key") || strings.Contains(faults[0], ":1:") {
		t.Errorf("%q", faults)
	}
}

func TestAnObjectThatIsChangedIntoABadOneStaysAsItWas(t *testing.T) {
	r := readings{}
	r.update(nil, []*kube.AuthorizationPolicy{policyObject("shop", "a", goodPolicy, 1)})
	policies, faults := said(r.update(nil, []*kube.AuthorizationPolicy{policyObject("shop", "a", badPolicy, 2)}))
	if len(faults) != 1 || strings.Contains(faults[0], "is refused until") || cmp.Diff([]string{"shop/a allow"}, policies) != "" {
		t.Errorf("%q, %q", policies, faults)
	}
	if policies, faults = said(r.update(nil, []*kube.AuthorizationPolicy{policyObject("shop", "a", strings.Replace(goodPolicy, `{"s`, `{"action":"deny","s`, 1), 3)})); len(faults) != 0 || policies[0] != "shop/a deny" {
		t.Errorf("mended: %q, %q", policies, faults)
	}
	other := policyObject("shop", "a", badPolicy, 1)
	other.UID = "another one of the name"
	if policies, _ = said(r.update(nil, []*kube.AuthorizationPolicy{other})); policies[0] != "shop/a deny" {
		t.Errorf("%q", policies)
	}
	if policies, faults = said(r.update(nil, nil)); len(policies)+len(faults)+len(r) != 0 {
		t.Errorf("removed: %q, %q", policies, faults)
	}
}

func TestANamespaceWithTooManyPoliciesIsClosed(t *testing.T) {
	var many []*kube.AuthorizationPolicy
	for i := range policy.MaxPolicies + 1 {
		many = append(many, policyObject("shop", fmt.Sprintf("p%d", i), goodPolicy, 1))
	}
	policies, _ := said(readings{}.update(nil, append(many, policyObject("zoo", "c", goodPolicy, 1))))
	if diff := cmp.Diff([]string{"shop/too-many-policies deny", "zoo/c allow"}, policies); diff != "" {
		t.Error(diff)
	}
}

func TestAnObjectDoesNotLeadToTheGatewaysOwnHost(t *testing.T) {
	for _, addr := range []string{"127.0.0.1", "127.8.8.8:80", "::1", "169.254.169.254", "fe80::1", "224.0.0.1", "localhost", "::ffff:127.0.0.1"} {
		all := readings{}.update([]*kube.Service{serviceObject("shop", "x", fmt.Sprintf(`{"ports":[{"port":80}],"endpoints":[%q]}`, addr), 1)}, nil)
		if all[0].faults == "" || len(all[0].last.Services) > 0 {
			t.Errorf("%s is taken", addr)
		}
	}
}

func TestAServiceWithEndpointsTakesNoNameOfKubernetes(t *testing.T) {
	const spec = `{"ports":[{"port":80,"protocol":"http"}],"endpoints":["10.1.2.3"],"allow":["front/*"]}`
	external := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "outside"}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName}}
	besides := []*corev1.Service{{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart"}}, {ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "orders"}}, external}
	ours := []*kube.Service{
		serviceObject("shop", "cart", `{"export":true,"ports":[{"port":80,"protocol":"http"}]}`, 1), // without endpoints: says more of it
		serviceObject("shop", "legacy", spec, 1),
		serviceObject("shop", "orders", spec, 1),
		serviceObject("shop", "outside", spec, 1),
	}
	r := readings{}
	all := refuseTaken(r.update(ours, nil), besides)
	for _, one := range all {
		if refused := one.key.name == "orders"; refused != (len(one.last.Services) == 0) || refused != (one.faults != "") {
			t.Errorf("%s: %d services, %q", one.key, len(one.last.Services), one.faults)
		}
	}
	condition := accepted(&all[2].verdict)
	if condition.Status != metav1.ConditionFalse || condition.Reason != "ServiceExists" || !strings.Contains(condition.Message, "give this one another name, or remove its endpoints") {
		t.Errorf("%+v", condition)
	}
	if policies, _ := said(all); len(policies) != 3 {
		t.Errorf("the policies are %q, want the refused one's to stay", policies)
	}
	if all = refuseTaken(r.update(ours, nil), nil); all[2].faults != "" || len(all[2].last.Services) != 1 {
		t.Errorf("without a Service of Kubernetes: %+v", all[2].verdict)
	}
}

func TestAPolicyThatClosesSaysWhatIsWrongInEveryRefusal(t *testing.T) {
	all := readings{}.update(nil, []*kube.AuthorizationPolicy{policyObject("shop", "b", badPolicy, 1)})
	a, err := policy.Compile(policy.SetOf(orders(), nil, policiesOf(all)), "mesh.example", "east")
	if err != nil || a == nil {
		t.Fatal(err)
	}
	caller := policy.Caller{ID: identity.ID{TrustDomain: "mesh.example", Cluster: "east", Namespace: "shop", ServiceAccount: "web"}}
	d := a.Opaque(&caller, 80)
	const want = "every call to a service of namespace shop is refused because of AuthorizationPolicy shop/b: it could not be read: spec.rules[0].from[0]: "
	if why := a.Explain(d.Verdict, &caller); d.Allowed || !strings.HasPrefix(why, want) || !strings.Contains(why, "there is no such key") || !strings.HasSuffix(why, ": mend or remove it") {
		t.Errorf("%+v: %s", d, why)
	}
}

func TestANameThatNoPolicyCanHaveClosesItsNamespaceOnly(t *testing.T) {
	for _, name := range []string{"a.b", strings.Repeat("x", 70)} {
		all := readings{}.update(nil, []*kube.AuthorizationPolicy{policyObject("shop", name, goodPolicy, 1)})
		set := policy.SetOf(orders(), nil, policiesOf(all))
		if _, err := policy.Compile(set, "mesh.example", "east"); err != nil || len(set.Policies) != 1 || !strings.Contains(set.Policies[0].Closes, name) {
			t.Errorf("%s: %+v, %v", name, set.Policies, err)
		}
	}
}

func orders() mesh.ServiceName { return mesh.ServiceName{Namespace: "shop", Name: "orders"} }
