package limit

import (
	"math"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/prom"
)

// Limits is what the ports of one process have in common. Its methods may be called
// concurrently, but Port before anything is served.
type Limits struct {
	// Turns are those of all handshakes of the process.
	Turns *Turns

	strangers *prometheus.GaugeVec   // port
	shed      *prometheus.CounterVec // port
	ports     []*Strangers
}

// New returns limits whose metrics are registered with reg; a nil one is left alone.
func New(reg prometheus.Registerer) (*Limits, error) {
	l := &Limits{
		strangers: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "isthmus_limit_strangers",
			Help: "Open connections whose peer has not said who it is yet, by port."}, []string{"port"}),
		shed: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "isthmus_limit_strangers_shed_total",
			Help: "Such connections that were cut to make room, by port."}, []string{"port"}),
	}
	waiting := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "isthmus_limit_handshakes_waiting",
		Help: "Handshakes that wait for their turn to compute."}, func() float64 { return float64(l.Turns.waitingNow()) })
	l.Turns = NewTurns()
	return l, prom.Register(reg, l.strangers, l.shed, waiting)
}

// Port returns the strangers of one port, most of them at a time. The name is a label.
func (l *Limits) Port(name string, most int) *Strangers {
	s := l.Doubted(name)
	s.max = max(1, most)
	l.ports = append(l.ports, s)
	return s
}

// Doubted returns those who may have proved who they are, or not: they are bounded
// elsewhere, end by [Strangers.Yield] only, and not when descriptors are short.
func (l *Limits) Doubted(name string) *Strangers {
	s := &Strangers{max: math.MaxInt, sources: map[Source]*crowd{}, open: l.strangers.WithLabelValues(name)}
	s.gone = sync.NewCond(&s.mu)
	s.shed = func() { l.shed.WithLabelValues(name).Inc() } // no series before the first
	return s
}

// Shed ends the half of the strangers of every port: descriptors are short.
func (l *Limits) Shed() {
	for _, s := range l.ports {
		s.Shed()
	}
}
