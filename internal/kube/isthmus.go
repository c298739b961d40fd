package kube

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Group is the API group of Isthmus's own kinds.
const Group = "isthmus.io"

// Resource is an object of a kind of ours as the API server has it. What its spec means,
// the reader of resource files says, here as there.
type Resource struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              runtime.RawExtension `json:"spec,omitempty"`
	Status            ResourceStatus       `json:"status,omitempty"`
}

// ResourceStatus is what a gateway says of a Resource.
type ResourceStatus struct {
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// Of returns the part that all kinds share.
func (r *Resource) Of() *Resource { return r }

func (r *Resource) copyInto(to *Resource) {
	*to = *r
	r.ObjectMeta.DeepCopyInto(&to.ObjectMeta)
	r.Spec.DeepCopyInto(&to.Spec)
	to.Status.Conditions = make([]metav1.Condition, len(r.Status.Conditions))
	for i := range r.Status.Conditions {
		r.Status.Conditions[i].DeepCopyInto(&to.Status.Conditions[i])
	}
}

// Service is isthmus.io/v1alpha1 Service.
type Service struct {
	Resource `json:",inline"`
}

// DeepCopyObject implements [runtime.Object].
func (s *Service) DeepCopyObject() runtime.Object {
	var to Service
	s.copyInto(&to.Resource)
	return &to
}

// ServiceList is a list of them.
type ServiceList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Service `json:"items"`
}

// DeepCopyObject implements [runtime.Object].
func (l *ServiceList) DeepCopyObject() runtime.Object {
	to := ServiceList{TypeMeta: l.TypeMeta, Items: make([]Service, len(l.Items))}
	l.ListMeta.DeepCopyInto(&to.ListMeta)
	for i := range l.Items {
		l.Items[i].copyInto(&to.Items[i].Resource)
	}
	return &to
}

// AuthorizationPolicy is isthmus.io/v1alpha1 AuthorizationPolicy.
type AuthorizationPolicy struct {
	Resource `json:",inline"`
}

// DeepCopyObject implements [runtime.Object].
func (p *AuthorizationPolicy) DeepCopyObject() runtime.Object {
	var to AuthorizationPolicy
	p.copyInto(&to.Resource)
	return &to
}

// AuthorizationPolicyList is a list of them.
type AuthorizationPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []AuthorizationPolicy `json:"items"`
}

// DeepCopyObject implements [runtime.Object].
func (l *AuthorizationPolicyList) DeepCopyObject() runtime.Object {
	to := AuthorizationPolicyList{TypeMeta: l.TypeMeta, Items: make([]AuthorizationPolicy, len(l.Items))}
	l.ListMeta.DeepCopyInto(&to.ListMeta)
	for i := range l.Items {
		l.Items[i].copyInto(&to.Items[i].Resource)
	}
	return &to
}

// addIsthmus makes our kinds known.
func addIsthmus(s *runtime.Scheme) {
	gv := schema.GroupVersion{Group: Group, Version: "v1alpha1"}
	s.AddKnownTypes(gv, &Service{}, &ServiceList{}, &AuthorizationPolicy{}, &AuthorizationPolicyList{})
	metav1.AddToGroupVersion(s, gv)
}
