package main

import (
	"strings"
	"testing"
	"time"
)

// at is a moment of the run that these tests judge, in seconds.
func at(seconds float64) time.Time { return time.Unix(1000, 0).Add(time.Duration(seconds * 1e9)) }

// ended is a request of call-east between two moments, and executed once.
func (j *journal) ended(kind, id string, begin, end float64, outcome string) {
	j.records = append(j.records,
		record{Did: didExecute, Who: "orders-w1", Kind: kind, ID: id, Begin: at(begin)},
		record{Did: didEnd, Who: "call-east", Kind: kind, ID: id, Begin: at(begin), End: at(end), Outcome: outcome})
}

func during(e excuse) *fault {
	return &fault{kind: "some", target: "call-east", excuse: e, begin: at(10), healed: at(15), until: at(16)}
}

func TestOnlyWhatAFaultExcusesMayFail(t *testing.T) {
	for _, c := range []struct {
		what          string
		kind, outcome string
		excuse        excuse
		begin, end    float64
		excused       bool
	}{
		{"a POST on its way to who was killed", post, failed, inFlight, 12, 13, true},
		{"a POST that began before the fault", post, failed, inFlight, 9, 11, true},
		{"a POST before it", post, failed, inFlight, 8, 9, false},
		{"a POST long after it", post, failed, inFlight, 18, 19, false},
		{"a GET on its way", get, failed, inFlight, 12, 13, false},
		{"a PUT on its way", put, failed, inFlight, 12, 13, false},
		{"a stream whose answer had begun", stream, cut, inFlight, 12, 13, true},
		{"a POST while somebody is ended gently", post, failed, nothing, 12, 13, false},
		{"a POST that hangs", post, hang, inFlight, 12, 22, false},
		{"a name that is not known", get, absent, program, 12, 13, false},
		{"a name that is not known, by the own sidecar", get, absent, own, 12, 13, true},
		{"an answer that is wrong", get, wrong, own, 12, 13, false},
		{"a TCP connection that ends early", tcp, eof, inFlight, 12, 13, false},
		{"a TCP connection of a killed program", tcp, eof, program, 12, 13, true},
		{"a GET while the own sidecar is frozen", get, hang, own, 12, 22, true},
	} {
		j := &journal{faults: []*fault{during(c.excuse)}}
		j.ended(c.kind, "1", c.begin, c.end, c.outcome)
		if v := j.judge(); (len(v.failures) == 0) != c.excused {
			t.Errorf("%s: %v", c.what, v.failures)
		}
	}
}

func TestAFaultOfOneCallerExcusesNoOther(t *testing.T) {
	f := during(own)
	f.target = "call-west"
	j := &journal{faults: []*fault{f}}
	j.ended(get, "1", 12, 13, failed)
	if v := j.judge(); len(v.failures) != 1 {
		t.Errorf("%v", v.failures)
	}
}

func TestAPostMayBeExecutedOnceAndAPutTwice(t *testing.T) {
	j := &journal{faults: []*fault{during(program)}}
	for id, kind := range map[string]string{"a": post, "b": put, "c": put} {
		j.ended(kind, id, 12, 13, ok)
		j.records = append(j.records, record{Did: didExecute, Who: "orders-w2", Kind: kind, ID: id, Begin: at(12.5)})
	}
	j.records = append(j.records, record{Did: didExecute, Who: "orders-w2", Kind: put, ID: "c", Begin: at(12.6)})
	v := j.judge()
	if len(v.failures) != 2 || !strings.Contains(v.failures[0].what, "executed 2 times: POST a") || !strings.Contains(v.failures[1].what, "executed 3 times: PUT c") {
		t.Errorf("%v", v.failures)
	}
	if v.repeated[put] != 1 {
		t.Errorf("%d PUTs were repeated as they may be", v.repeated[put])
	}
}

func TestWhatIsAnsweredHasBeenExecuted(t *testing.T) {
	j := &journal{}
	j.records = []record{{Did: didEnd, Who: "call-east", Kind: post, ID: "1", Begin: at(1), End: at(2), Outcome: ok}}
	if v := j.judge(); len(v.failures) != 1 || !strings.Contains(v.failures[0].what, "by nobody") {
		t.Errorf("%v", v.failures)
	}
}

func TestTheGapOfAFaultIsTheLongestThatTouchesIt(t *testing.T) {
	successes := []time.Time{at(1), at(5), at(9.5), at(12), at(15.5), at(18), at(30)}
	if g := gap(successes, at(10), at(16)); g != 3500*time.Millisecond {
		t.Errorf("%v", g)
	}
	if g := gap(nil, at(10), at(16)); g != 0 {
		t.Errorf("%v without any success", g)
	}
}

func TestGrowthBeyondTheBoundsIsTold(t *testing.T) {
	before := sample{rss: 40 << 10, descriptors: 50, goroutines: 100, streams: 20}
	if what := grown(before, sample{rss: 60 << 10, descriptors: 60, goroutines: 150, streams: 60}); what != nil {
		t.Errorf("%v", what)
	}
	if what := grown(before, sample{rss: 100 << 10, descriptors: 100, goroutines: 200, streams: 90}); len(what) != 4 {
		t.Errorf("%v", what)
	}
}
