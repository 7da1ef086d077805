"""What a person reads of an audit: data first (`data`), then the terminal's text and the HTML page."""
