"""Mail by SMTP submission: `smtp://` with STARTTLS, `smtps://` with TLS from the first byte."""
