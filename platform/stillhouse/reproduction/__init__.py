"""The papers' experiments at mini size: what they are, the runs, and the page that sets both beside each other."""
