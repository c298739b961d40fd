package streams

import (
	"runtime"
	"time"
)

// writer writes what is queued, on the goroutine of whoever finds nobody writing.
type writer struct {
	conn *Conn

	// Guarded by conn.mu.
	busy  bool      // somebody writes
	since time.Time // a batch has been on its way; zero: none is
}

// claimLocked makes the caller the one who writes, if there is need.
func (w *writer) claimLocked() bool {
	if w.busy || w.conn.out.len() == 0 || w.conn.closed {
		return false
	}
	w.busy = true
	return true
}

// writeAll writes until nothing is left.
func (w *writer) writeAll() {
	for !w.write(maxTurns) {
	}
}

// write writes what is queued, in so many batches at most, and reports whether nothing is
// left. Then its caller is not the one who writes any more.
func (w *writer) write(batches int) bool {
	nc := w.conn.nc
	for range batches {
		runtime.Gosched() // who is ready appends what it has
		batch, since := w.takeBatch()
		if batch == nil {
			return true
		}
		_ = nc.SetWriteDeadline(since.Add(stallTimeout))
		_, err := nc.Write(batch.buf)
		batch.release()
		w.batchIsOut()
		if err != nil {
			w.broke(err)
			return true // and stays the one who writes: nobody else tries
		}
	}
	return false
}

// takeBatch returns all that is queued, for its caller to write; nil: nothing is, and its
// caller is not the one who writes any more.
func (w *writer) takeBatch() (*batch, time.Time) {
	c := w.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.out.len() == 0 || c.closed {
		w.busy = false
		c.out.drop()
		if c.err != nil && !c.closed {
			c.owned.Go(c.closeWrite) // all is said
		}
		return nil, time.Time{}
	}
	w.since = time.Now()
	return c.out.take(), w.since
}

// batchIsOut notes that what takeBatch gave is written.
func (w *writer) batchIsOut() {
	w.conn.mu.Lock()
	defer w.conn.mu.Unlock()
	w.since = time.Time{}
}

// broke ends the connection since nothing can be written to it any more. What the other end
// has said before is read first, for a moment: its GOAWAY says which streams it has not seen.
func (w *writer) broke(err error) {
	c := w.conn
	c.mu.Lock()
	last := c.err == nil && !c.closed
	if last {
		c.unwritable, c.goingAway = err, true
		c.lastWordsLocked()
	}
	c.mu.Unlock()
	if !last {
		c.fail(err)
	}
}

// outputLocked queues what the engine itself has to say.
func (c *Conn) outputLocked() {
	if c.engine.HasOutput() {
		c.out.put(c.engine.Output(c.out.buffer()))
	}
}

// unlockAndWrite unlocks and, when nobody is writing, writes what is queued.
func (c *Conn) unlockAndWrite() {
	if !c.writer.claimLocked() {
		c.mu.Unlock()
		return
	}
	c.mu.Unlock()
	if !c.writer.write(maxTurns) { // others have more and more: they are not ours to wait for
		c.writer.goOnElsewhere()
	}
}

// goOnElsewhere has a goroutine go on as the one who writes. On a connection that is closed there
// is nothing to write, and who waits for its goroutines may have returned.
func (w *writer) goOnElsewhere() {
	c := w.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		w.busy = false
		c.out.drop()
		return
	}
	c.owned.Go(w.writeAll)
}

// unlockAndWriteElsewhere is unlockAndWrite for who must not wait.
func (c *Conn) unlockAndWriteElsewhere() {
	c.writeElsewhereLocked()
	c.mu.Unlock()
}

func (c *Conn) writeElsewhereLocked() {
	if c.writer.claimLocked() {
		c.owned.Go(c.writer.writeAll)
	}
}
