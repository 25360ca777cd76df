"""The dual problem and the trust region of a policy step."""
