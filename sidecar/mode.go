package sidecar

import (
	"log/slog"
	"os"

	"github.com/isthmus-mesh/isthmus/interception"
	"github.com/isthmus-mesh/isthmus/internal/config"
)

// interceptionMode is the configured one, or for auto the best that this process
// can do here; a warning says what the better one lacks.
func interceptionMode(cfg *config.Interception, log *slog.Logger) config.InterceptionMode {
	if cfg.Mode != config.Auto {
		return cfg.Mode
	}
	if os.Geteuid() == 0 {
		missing := interception.Probe().Err()
		if missing == nil {
			return config.EBPF
		}
		fallBack(cfg, config.NFTables, missing, log)
		return config.NFTables
	}
	i, err := interception.Open("", cfg.Name)
	if err != nil {
		fallBack(cfg, config.Explicit, err, log)
		return config.Explicit
	}
	_ = i.Close() // it is opened again to be used
	return config.EBPF
}

// fallBack tells what auto chose, and what is lost by it.
func fallBack(cfg *config.Interception, to config.InterceptionMode, why error, log *slog.Logger) {
	log.Warn("interception falls back", "mode", to, "err", why)
	if to == config.Explicit {
		log.Warn("nothing is captured: the program reaches the mesh by the listeners of upstreams only")
	}
	if cfg.Inbound == config.InboundStrict {
		log.Warn("callers of the program's own port are not refused: have it listen on loopback only")
	}
}
