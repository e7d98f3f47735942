package nettapreceiver

import "sync"

// claim is a task of a house that one of its signals has at a time. Its zero value is
// free.
type claim struct {
	mu sync.Mutex
	by *nettap
}

// take says whether n has the task now.
func (c *claim) take(n *nettap) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil {
		c.by = n
	}
	return c.by == n
}

// release frees the task if n has it: the next start may give it to another signal.
func (c *claim) release(n *nettap) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == n {
		c.by = nil
	}
}
