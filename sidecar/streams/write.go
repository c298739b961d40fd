package streams

import (
	"runtime"
	"sync"
	"time"
)

// queue is what waits to be written.
type queue struct{ buf []byte }

var queues = sync.Pool{New: func() any { return &queue{make([]byte, 0, maxQueue)} }}

func (q *queue) release() {
	if cap(q.buf) <= keepQueue {
		q.buf = q.buf[:0]
		queues.Put(q)
	}
}

// queuedLocked returns what waits to be written, for the engine to append to: appendLocked
// takes the result.
func (c *Conn) queuedLocked() []byte {
	if c.out == nil {
		c.out = queues.Get().(*queue)
	}
	return c.out.buf
}

// appendLocked makes b, which queuedLocked gave and which may have grown, what waits. An empty
// queue holds no memory: who waits for a window may do so for long.
func (c *Conn) appendLocked(b []byte) {
	c.queued += uint64(len(b) - len(c.out.buf))
	if c.out.buf = b; len(b) == 0 {
		c.out.release()
		c.out = nil
	}
}

// waitingLocked returns how many bytes wait to be written.
func (c *Conn) waitingLocked() int {
	if c.out == nil {
		return 0
	}
	return len(c.out.buf)
}

// outputLocked queues what the engine itself has to say.
func (c *Conn) outputLocked() {
	if c.engine.HasOutput() {
		c.appendLocked(c.engine.Output(c.queuedLocked()))
	}
}

// unlockAndWrite unlocks and, when nobody is writing, writes what is queued.
func (c *Conn) unlockAndWrite() {
	if !c.startWritingLocked() {
		c.mu.Unlock()
		return
	}
	c.mu.Unlock()
	if !c.write(maxTurns) { // others have more and more: they are not ours to wait for
		c.mu.Lock()
		c.owned.Go(c.writeAll)
		c.mu.Unlock()
	}
}

// unlockAndWriteElsewhere is unlockAndWrite for who must not wait.
func (c *Conn) unlockAndWriteElsewhere() {
	c.writeElsewhereLocked()
	c.mu.Unlock()
}

func (c *Conn) writeElsewhereLocked() {
	if c.startWritingLocked() {
		c.owned.Go(c.writeAll)
	}
}

// startWritingLocked makes the caller the one who writes, if there is need.
func (c *Conn) startWritingLocked() bool {
	if c.writing || c.waitingLocked() == 0 || c.closed {
		return false
	}
	c.writing = true
	return true
}

func (c *Conn) writeAll() {
	for !c.write(maxTurns) {
	}
}

// write writes what is queued, in so many batches at most, and reports whether nothing is
// left. Then its caller is not the one who writes any more.
func (c *Conn) write(batches int) bool {
	for range batches {
		runtime.Gosched() // who is ready appends what it has
		batch, since := c.takeBatch()
		if batch == nil {
			return true
		}
		_ = c.nc.SetWriteDeadline(since.Add(stallTimeout))
		_, err := c.nc.Write(batch.buf)
		batch.release()
		c.batchIsOut()
		if err != nil {
			c.cannotWrite(err)
			return true // and stays the one who writes: nobody else tries
		}
	}
	return false
}

// cannotWrite ends the connection since nothing can be written to it any more. What the other end
// has said before is read first, for a moment: its GOAWAY says which streams it has not seen.
func (c *Conn) cannotWrite(err error) {
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

// takeBatch returns all that is queued, for its caller to write; nil: nothing is, and its
// caller is not the one who writes any more.
func (c *Conn) takeBatch() (*queue, time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	batch := c.out
	if c.waitingLocked() == 0 || c.closed {
		c.writing, c.out = false, nil
		if batch != nil {
			batch.release()
		}
		if c.err != nil && !c.closed {
			c.owned.Go(c.closeWrite) // all is said
		}
		return nil, time.Time{}
	}
	c.out = nil
	c.handed += uint64(len(batch.buf))
	c.writeSince = time.Now()
	c.wakeTurnLocked()
	return batch, c.writeSince
}

// batchIsOut notes that what takeBatch gave is written.
func (c *Conn) batchIsOut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writeSince = time.Time{}
}
