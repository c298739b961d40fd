package status_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/status"
)

func TestWhyAGatewayHasNoDecisionIsTheError(t *testing.T) {
	const why = "no service shop/orders in cluster east: ask a gateway of a cluster that has it"
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnprocessableEntity)
		_ = json.NewEncoder(w).Encode(&status.Authorization{Error: why})
	}))
	defer s.Close()
	_, err := status.AskAuthorization(t.Context(), strings.TrimPrefix(s.URL, "http://"), "front/web", "shop/orders", "", "")
	if err == nil || err.Error() != why {
		t.Errorf("got %v, want %q", err, why)
	}
}
