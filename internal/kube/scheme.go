package kube

import (
	"errors"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"
)

// newScheme knows the groups that Isthmus reads or writes, and no other: to know all of
// client-go's takes 10 MB of the binary.
func newScheme() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	addIsthmus(s)
	return s, errors.Join(
		corev1.AddToScheme(s),
		discoveryv1.AddToScheme(s),
		appsv1.AddToScheme(s),
		coordinationv1.AddToScheme(s),
		authenticationv1.AddToScheme(s),
		admissionv1.AddToScheme(s),
		admissionregistrationv1.AddToScheme(s),
		authorizationv1.AddToScheme(s),
		rbacv1.AddToScheme(s),
		mcsv1beta1.Install(s),
		gatewayv1.Install(s),
	)
}

// resourceOf returns the name under which the API server has a kind: its plural in lower
// case, as for every kind above.
func resourceOf(kind schema.GroupVersionKind) schema.GroupVersionResource {
	plural, _ := meta.UnsafeGuessKindToResource(kind)
	return plural
}
